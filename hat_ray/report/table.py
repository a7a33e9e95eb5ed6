"""The summary table for the terminal."""

from rich.table import Table
from rich.text import Text

from hat_ray.report.data import ChosenModel, Device, ReportData
from hat_ray.report.numbers import count, fixed, significant
from hat_ray.report.words import keeps_limit, role

COLUMNS = ("parameters", "predicted ms", "measured ms", "loss inherited", "from scratch", "BLEU")


def summary_tables(data: ReportData) -> list[Table]:
    """Return one table a device: architecture, parameters, predicted and measured ms, both losses, BLEU."""
    return [_table(data, device) for device in data.devices]


def _table(data: ReportData, device: Device) -> Table:
    table = Table(title=Text(device.title, style="bold"), title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("model", overflow="fold")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    for model in data.models_on(device.slug):
        table.add_row(*_row(model, device.slug), style="bold" if model.kind == "winner" else None)
    return table


def _row(model: ChosenModel, slug: str) -> list[Text]:
    latency = model.latency.get(slug)
    late = " over limit" if keeps_limit(model, slug) is False and model.kind == "winner" else ""
    name = Text(f"{role(model)}\n").append(str(model.architecture), style="not bold dim")
    cells = [
        count(model.params),
        significant(latency.predicted_ms if latency else None),
        significant(latency.measured_ms if latency else None) + late,
        fixed(model.inherited_loss, 3),
        fixed(model.scratch_loss, 3),
        fixed(model.bleu, 1),
    ]
    return [name, *map(Text, cells)]  # `Text`, because rich reads [brackets] in plain strings
