"""The summary table for the terminal."""

from rich.table import Table
from rich.text import Text

from hat_ray.core.text import count, fixed, limit, significant
from hat_ray.report.data import ChosenModel, Device, ReportData
from hat_ray.report.reading import limit_verdict
from hat_ray.search.limits import Verdict

COLUMNS = ("params", "predicted\nms", "measured\nms", "loss\ninherited", "loss from\nscratch", "BLEU")


def summary_tables(data: ReportData) -> list[Table]:
    """Return one table a device: architecture, parameters, predicted and measured ms, both losses, BLEU.

    An architecture is shown as encoder width x depth, decoder width x depth; a winner that misses its limit has an
    exclamation mark.
    """
    return [_table(data, device) for device in data.devices]


def _table(data: ReportData, device: Device) -> Table:
    table = Table(
        title=Text(device.title, style="bold"), title_justify="left", show_edge=False, pad_edge=False, box=None
    )
    table.add_column("model", no_wrap=True, vertical="bottom")
    table.add_column("architecture", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for model in data.models_on(device.slug):
        table.add_row(*_row(model, device.slug), style="bold" if model.kind == "winner" else None)
    return table


def _row(model: ChosenModel, slug: str) -> list[Text]:
    latency = model.latency.get(slug)
    late = "!" if model.kind == "winner" and limit_verdict(model, slug) is Verdict.MISSED else ""
    e, d = model.architecture.encoder, model.architecture.decoder
    cells = [
        _short_role(model),
        f"{model.architecture.id} {e.embed_dim}×{e.depth} {d.embed_dim}×{d.depth}",
        count(model.params),
        significant(latency.predicted_ms if latency else None),
        significant(latency.measured_ms if latency else None) + late,
        fixed(model.inherited_loss, 3),
        fixed(model.scratch_loss, 3),
        fixed(model.bleu, 1),
    ]
    return [Text(cell) for cell in cells]  # `Text`, because rich reads [brackets] in plain strings


def _short_role(model: ChosenModel) -> str:
    names = {"winner": "chosen", "random": "random"}
    name = names.get(model.kind, model.kind)
    return f"{name} ≤ {limit(model.limit_ms)}" if model.limit_ms is not None and model.kind == "winner" else name
