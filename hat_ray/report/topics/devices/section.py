"""Devices side by side: what each prefers, drawn as networks, and which runtime wins each limit.

Every sentence follows from the figures, also where devices do not differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hat_ray.core.text import UNKNOWN, fixed, milliseconds
from hat_ray.report.chart import Figure, data_only
from hat_ray.report.data import ReportData, RuntimeContest
from hat_ray.report.network import Scale, draw
from hat_ray.report.tables import Table
from hat_ray.report.topics.devices.charts import preference_figures
from hat_ray.report.topics.devices.preferences import (
    AS_FAST,
    TELLING,
    DevicePreference,
    DevicePreferences,
    Difference,
    device_preferences,
    differences,
)
from hat_ray.report.topics.models import Network
from hat_ray.report.topics.sweep import name_of
from hat_ray.space.architecture import Architecture
from hat_ray.space.dimensions import CELLS

MOST_NAMED = 4
FEW = 100
"""Scored architectures below which chance is warned of."""


@dataclass(frozen=True)
class Runtimes:
    """Which runtime wins each limit, where one machine has several."""

    sentences: tuple[str, ...]
    table: Table
    csv: Figure


@dataclass(frozen=True)
class Preference:
    """One device: how its best architectures differ, and the one that is drawn."""

    title: str
    sentence: str
    drawn: str
    """Limit, prediction and loss of what is drawn."""
    network: Network


@dataclass(frozen=True)
class Preferences:
    """All devices side by side, at equal demands."""

    rule: str
    share: str
    """The limit of what is drawn, as a share of what the largest takes."""
    devices: tuple[Preference, ...]
    drawn: Table
    means: Table | None
    figures: tuple[Figure, ...]


def preferences(data: ReportData) -> Preferences | None:
    """Return each device's preferences; None without scored architectures."""
    found = device_preferences(data)
    if found is None:
        return None
    scale = Scale.of([one.best[found.drawn].architecture for one in found.devices])
    return Preferences(
        rule=rule_text(found),
        share=_percent(found.shares[found.drawn]),
        devices=tuple(_preference(data, found, one, scale) for one in found.devices),
        drawn=Table("What is drawn", DRAWN_COLUMNS, [drawn_row(found, one) for one in found.devices]),
        means=mean_table(found),
        figures=tuple(preference_figures(found)),
    )


def _preference(data: ReportData, found: DevicePreferences, entry: DevicePreference, scale: Scale) -> Preference:
    scored = sum(entry.device.slug in one.latency_ms for one in data.candidates)
    best = entry.best[found.drawn]
    a = best.architecture
    predicted = milliseconds(best.latency_ms[entry.device.slug])
    drawn = f"limit {limit_text(found, entry)} · predicted {predicted} · loss {fixed(best.loss_bits, 3)}"
    network = Network(a.id, draw(a, scale), shape_text(a), str(a))
    return Preference(entry.device.title, preference_sentence(found, entry, scored), drawn, network)


def runtimes(data: ReportData) -> Runtimes | None:
    """Return which runtime wins each limit, where one machine has several."""
    if not data.runtimes:
        return None
    bleu = {(model.device or "", model.architecture.id): model.bleu for model in data.chosen if model.kind == "winner"}
    title, columns = "Which runtime wins each limit", ("machine", *CONTEST_COLUMNS)
    rows = [(contest.hardware, row) for contest in data.runtimes for row in contest_rows(contest, bleu)]
    return Runtimes(
        tuple(contest_sentence(contest, bleu) for contest in data.runtimes),
        Table(title, CONTEST_COLUMNS, [row for _, row in rows], text_columns=2),
        data_only("runtimes-table", title, columns, [[hardware, *row] for hardware, row in rows]),
    )


def rule_text(found: DevicePreferences) -> str:
    """Return the rule by which devices are compared."""
    first, last = _percent(found.shares[0]), _percent(found.shares[-1])
    at = f"at {len(found.shares)} limits from {first} to {last}" if len(found.shares) > 1 else f"at a limit of {first}"
    return (
        "Milliseconds are not the same demand on a fast and on a slow device. So each device's limit is a share of "
        f"what the largest architecture takes on it, {at}, and the best scored architecture within it is read off: the "
        "one with the least validation loss, by predicted latency."
    )


def preference_sentence(found: DevicePreferences, entry: DevicePreference, scored: int) -> str:
    """Return how the best architectures of a device differ from the other devices', or from others as fast."""
    named = differences(found, entry)[:MOST_NAMED]
    many = len(found.devices) > 1
    against = (
        f"Compared with the other device{'s' if len(found.devices) > 2 else ''} at the same limits"
        if many
        else f"Compared with the scored architectures that are as fast within {100 * AS_FAST:.0f} %"
    )
    if not named:
        text = f"{against}, its best architectures differ steadily by more than {100 * TELLING:.0f} % in no dimension."
        return f"{text} {_nothing(many)}{_caution(entry, scored)}"
    what = _listed([_difference(one) for one in named])
    return f"{against}, its best architectures have {what}.{_caution(entry, scored)}"


def _nothing(many: bool) -> str:
    if many:
        return "By these figures one architecture serves this device as well as the others."
    return "By these figures the device has no preference of its own: only the speed of an architecture counts."


def _difference(one: Difference) -> str:
    more, name = one.mine > one.theirs, name_of(one.dimension)
    if one.dimension == CELLS:  # 1 is an SSRU, 2 self-attention
        share, other = (_percent(each - 1) for each in (one.mine, one.theirs))
        return f"self-attention in {'more' if more else 'fewer'} decoder layers ({share} against {other})"
    if one.dimension == "decoder_cross_layers":
        name = "encoder layers attended"
    figures = f"({_number(one.mine)} against {_number(one.theirs)})"
    if one.dimension.endswith("_dims"):
        kind = "a " if "embed" in one.dimension else ""
        side = name.removesuffix(" width")
        return f"{kind}{'wider' if more else 'narrower'} {side} {figures}"
    return f"{'more' if more else 'fewer'} {name} {figures}"


def _number(value: float) -> str:
    return fixed(value, 1) if value < 20 else fixed(value, 0)


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _caution(entry: DevicePreference, scored: int) -> str:
    different = len({one.architecture for one in entry.best})
    limits = len(entry.best)
    text = f" ({different} architecture{'s are' if different != 1 else ' is'} the best at {limits} limits.)"
    return f"{text} Only {scored} architectures were scored: chance plays a part." if scored < FEW else text


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


DRAWN_COLUMNS = (
    *("Device", "Limit", "Predicted", "Loss", "Encoder", "FFN by layer", "Heads by layer"),
    *("Decoder", "FFN by layer", "Self heads", "Cross heads", "Attended"),
)


def drawn_row(found: DevicePreferences, entry: DevicePreference) -> list[str]:
    """Return a device's drawn architectures as cells of a table."""
    one = entry.best[found.drawn]
    e, d = one.architecture.encoder, one.architecture.decoder
    return [
        entry.device.title,
        limit_text(found, entry),
        milliseconds(one.latency_ms[entry.device.slug]),
        fixed(one.loss_bits, 3),
        f"{e.depth} × {e.embed_dim}",
        _layers(e.ffn_dims),
        _layers(e.heads),
        f"{d.depth} × {d.embed_dim}",
        _layers(d.ffn_dims),
        _layers(_self_heads(one.architecture)),
        _layers(d.cross_heads),
        _layers(d.cross_layers),
    ]


def limit_text(found: DevicePreferences, entry: DevicePreference) -> str:
    """Return the limit of what is drawn, in milliseconds."""
    return milliseconds(found.shares[found.drawn] * entry.largest_ms)


def shape_text(architecture: Architecture) -> str:
    """Return an architecture's proportions in a few words."""
    e, d = architecture.encoder, architecture.decoder
    return f"{e.depth} × {e.embed_dim} encoder, {d.depth} × {d.embed_dim} decoder"


def mean_table(found: DevicePreferences) -> Table | None:
    """Return the mean of each dimension over all limits: a row a device; of one device also the others."""
    names = found.varying
    if not names:
        return None
    rows = [[one.device.title, *(_number(one.mean(name)) for name in names)] for one in found.devices]
    if len(found.devices) == 1:
        values = (found.others(found.devices[0], name) for name in names)
        rows.append(["Others as fast", *(_number(sum(column) / len(column)) for column in values)])
    columns = ("Mean over all limits", *(name_of(name) for name in names))
    return Table("Means over all limits", columns, rows)


def _self_heads(architecture: Architecture) -> list[int | str]:
    pairs = zip(architecture.decoder.self_heads, architecture.cells, strict=True)
    return ["SSRU" if cell == "ssru" else heads for heads, cell in pairs]


def _layers(values: Sequence[int | str]) -> str:
    return ", ".join(map(str, values))


def contest_sentence(contest: RuntimeContest, bleu: Mapping[tuple[str, str], float | None]) -> str:
    """Return which runtime wins a limit; `bleu` by device and architecture id, of the models that were built."""
    best, *others = contest.entries
    text = f"Under {contest.limit.text} on {contest.hardware}: {best.settings} wins with loss "
    text += fixed(best.loss_bits, 3)
    if others:
        text += f", against {_listed([f'{fixed(one.loss_bits, 3)} of {one.settings}' for one in others])}"
    if contest.without:
        text += f"; {_listed(contest.without)} {'has' if len(contest.without) == 1 else 'have'} nothing as fast"
    return f"{text}.{_after_training(contest, bleu)}"


def _after_training(contest: RuntimeContest, bleu: Mapping[tuple[str, str], float | None]) -> str:
    """Return the scores where training from scratch put another runtime ahead."""
    scores = [(bleu.get((one.limit.device, one.id)), one) for one in contest.entries]
    known = [(score, one) for score, one in scores if score is not None]
    if len(known) < 2 or known[0][1] is not contest.entries[0]:
        return ""
    score, ahead = max(known, key=lambda pair: pair[0])
    if score <= known[0][0]:
        return ""
    return f" Trained from scratch, {ahead.settings} is ahead: {fixed(score, 1)} BLEU against {fixed(known[0][0], 1)}."


CONTEST_COLUMNS = ("Limit", "Runtime", "Loss", "Predicted", "Measured", "BLEU from scratch", "Architecture")


def contest_rows(contest: RuntimeContest, bleu: Mapping[tuple[str, str], float | None]) -> list[list[str]]:
    """Return a contest as rows; `bleu` by device and architecture id, of the models that were built."""
    rows = []
    for place, one in enumerate(contest.entries):
        built = bleu.get((one.limit.device, one.id))
        name = one.settings + (" ★" if place == 0 else "")
        shown = [fixed(one.loss_bits, 3), milliseconds(one.predicted_ms), milliseconds(one.measured_ms)]
        score = fixed(built, 1) if built is not None else UNKNOWN
        rows.append([f"≤ {contest.limit.text}", name, *shown, score, one.id])
    return rows
