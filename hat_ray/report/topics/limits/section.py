"""What decides each winner: which bounds of its limit, and what a looser one would buy."""

from collections.abc import Sequence
from dataclasses import dataclass

from hat_ray.core.text import UNKNOWN, bound_digits, fixed, significant
from hat_ray.latency.quantities import QUANTITIES
from hat_ray.report.bounds import BoundPrice, LimitPrices, LossNoise, Prices, best_by_bound
from hat_ray.report.chart import DASHES, Figure, Trace, Value, axis, layout, line, points, series_colour
from hat_ray.report.data import Device, ReportData
from hat_ray.report.tables import AnyCell, Cell, Facts, Note, Table

UNIT_WORDS = {"ms": "millisecond", "MB": "megabyte", "J": "joule"}
WITHIN_NOISE = "within the noise"


@dataclass(frozen=True)
class DecidedDevice:
    """The limits of one device."""

    title: str | None
    """None where there is one device."""
    sentences: tuple[tuple[str, str], ...]
    """A limit, and what decides under it."""
    table: Table
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Decided:
    """What decides each winner, by device, and how to read it."""

    devices: tuple[DecidedDevice, ...]
    notes: Facts

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(figure for device in self.devices for figure in device.figures)


def decided(data: ReportData) -> Decided | None:
    """Return which bounds decide each winner, and what a looser one would buy; None without winners."""
    if data.prices is None:
        return None
    devices = [_device(data, data.prices, device, number) for number, device in enumerate(data.devices)]
    return Decided(tuple(one for one in devices if one is not None), _notes(data.prices))


def _device(data: ReportData, known: Prices, device: Device, number: int) -> DecidedDevice | None:
    limits = sorted((one for one in known.limits if one.limit.device == device.slug), key=lambda one: one.limit.order)
    if not limits:
        return None
    names = dict.fromkeys(bound.name for one in limits for bound in one.bounds if len(one.bounds) > 1)
    return DecidedDevice(
        title=device.title if len(data.devices) > 1 else None,
        sentences=tuple((f"≤ {one.limit.text}", sentence(one, known.noise)) for one in limits),
        table=price_table(device, limits, known.noise),
        figures=tuple(bound_curves(data, limits, name, f"bound-{number}-{place}") for place, name in enumerate(names)),
    )


def sentence(one: LimitPrices, noise: LossNoise | None) -> str:
    """Return what decides under a limit and what a step of each bound would buy, in one sentence."""
    deciding = [bound for bound in one.bounds if bound.decides]
    if deciding:
        what = " and by ".join(_bound_words(bound, noise) for bound in deciding)
        text = f"bound by {what}: {_steps_words([*deciding, *(b for b in one.bounds if not b.decides)], noise)}"
    elif one.together_gain_bits > 0:
        gain = _gain_words(one.together_gain_bits, noise)
        text = f"bound by its bounds together: lifting all lowers the loss by {gain}, lifting one alone by nothing"
    else:
        text = "bound by nothing: no candidate has a lower loss"
    return f"{text}.{_other_best(one)}"


def _bound_words(bound: BoundPrice, noise: LossNoise | None) -> str:
    note = f", {WITHIN_NOISE}" if _is_noise(bound.lifted_gain_bits, noise) else ""
    return f"{_title(bound)} ({_amount(bound.name, bound.most)}{note})"


def _steps_words(bounds: Sequence[BoundPrice], noise: LossNoise | None) -> str:
    """Return what a step of each bound buys; where that is nothing, what the next better candidate needs."""
    first, *others = sorted(bounds, key=lambda bound: bound.step_gain_bits <= 0)
    steps = [f"{_step_words(first, bounds)} would lower the loss by {_gain_words(first.step_gain_bits, noise)}"]
    steps += [f"{_step_words(one, bounds)} by {_gain_words(one.step_gain_bits, noise)}" for one in others]
    if any(one.step_gain_bits > 0 for one in bounds):
        return ", ".join(steps)
    missing = (
        ""
        if first.next_value is None
        else (f"; the next better candidate needs {significant(first.next_value, 4)} {_unit(first)}")
    )
    return f"{' or '.join(_step_words(one, bounds) for one in bounds)} would buy nothing{missing}"


def _step_words(bound: BoundPrice, bounds: Sequence[BoundPrice]) -> str:
    unit = _unit(bound)
    what = f"one more {UNIT_WORDS.get(unit, unit)}" if bound.step == 1 else f"{_amount(bound.name, bound.step)} more"
    return f"{what} of {_title(bound)}" if [_unit(other) for other in bounds].count(unit) > 1 else what


def _unit(bound: BoundPrice) -> str:
    return QUANTITIES.facts(bound.name).unit


def _gain_words(gain_bits: float, noise: LossNoise | None) -> str:
    if gain_bits <= 0:
        return "nothing"
    return f"{significant(gain_bits, 2)} bits{f' ({WITHIN_NOISE})' if _is_noise(gain_bits, noise) else ''}"


def _is_noise(gain_bits: float, noise: LossNoise | None) -> bool:
    return noise is not None and 0 < gain_bits <= noise.bits


def _other_best(one: LimitPrices) -> str:
    """Return that another candidate than the winner has the least inherited loss, where it is so."""
    if one.winner is None or one.winner_loss_bits is None or one.winner_loss_bits <= one.best_loss_bits:
        return ""
    lower = significant(one.winner_loss_bits - one.best_loss_bits, 2)
    return (
        f" The gains are over {one.best}, which keeps the limit with an inherited loss {lower} bits below that of the "
        "winner, which training or timing preferred."
    )


def _title(bound: BoundPrice) -> str:
    return QUANTITIES.facts(bound.name).title


def _amount(name: str, value: float) -> str:
    return f"{bound_digits(value)} {QUANTITIES.facts(name).unit}"


def price_table(device: Device, limits: Sequence[LimitPrices], noise: LossNoise | None) -> Table:
    """Return each bound of a device's limits with what lifting it, a step of it, and the next candidate would give."""
    columns = ("Limit", "Bound", "At most", "Decides", "Lifted", "Step", "A step buys", "Next better\nneeds")
    rows = [_row(one, bound, noise) for one in limits for bound in one.bounds]
    return Table(f"What a looser bound buys on {device.title}", columns, rows, text_columns=2)


def _row(one: LimitPrices, bound: BoundPrice, noise: LossNoise | None) -> list[AnyCell]:
    together = one.together_gain_bits > 0 and not any(other.decides for other in one.bounds)
    following: AnyCell = UNKNOWN
    if bound.next_value is not None:
        buys = Note(f"−{significant(bound.next_gain_bits, 2)} bits")
        following = Cell(f"{significant(bound.next_value, 4)} {_unit(bound)}", (buys,))
    return [
        f"≤ {one.limit.text}",
        _title(bound),
        _amount(bound.name, bound.most),
        "yes" if bound.decides else "together" if together else "no",
        _gain_cell(bound.lifted_gain_bits, noise),
        f"+{_amount(bound.name, bound.step)}",
        _gain_cell(bound.step_gain_bits, noise),
        following,
    ]


def _gain_cell(gain_bits: float, noise: LossNoise | None) -> Cell:
    if gain_bits <= 0:
        return Cell("0")
    notes = (Note(WITHIN_NOISE),) if _is_noise(gain_bits, noise) else ()
    return Cell(f"−{significant(gain_bits, 2)} bits", notes)


def _notes(known: Prices) -> Facts:
    return {
        "Decides": "a bound without which, all others kept, a candidate of a lower loss would be within the limit",
        "Gains": (
            "by how much the least inherited loss within the limit falls, in bits a token, among the candidates of the "
            "search, at measured quantities or else predicted ones; nothing is extrapolated"
        ),
        "Step": "one unit where this is 1 % to 10 % of the bound, else a round number of at most 5 %",
        "Beyond": (
            "the search aims at candidates within its limits and has few beyond the loosest, so a looser bound may buy "
            "more than is shown: search with a looser limit as well to know"
        ),
        "Noise": _noise_words(known.noise),
    }


def _noise_words(noise: LossNoise | None) -> str:
    if noise is None:
        return "not known, since fewer than three candidates were trained: a small gain may be chance"
    who = "finalists after their first rung" if noise.finalists else "models that were built"
    return (
        f"{significant(noise.bits, 2)} bits: one standard deviation by which a difference of two inherited losses "
        f"misses that after training, of {noise.trained} {who}"
    )


def bound_curves(data: ReportData, limits: Sequence[LimitPrices], name: str, id: str) -> Figure:
    """Draw the least loss under each limit while one of its bounds moves and the others are kept."""
    facts, traces, rows = QUANTITIES.facts(name), list[Trace](), list[Sequence[Value]]()
    for number, one in enumerate(limits):
        bound = next((bound for bound in one.bounds if bound.name == name), None)
        if bound is None:
            continue
        pairs = best_by_bound(data.candidates, one.limit, name)
        text = f"≤ {one.limit.text}"
        hover = [
            f"{text}, but {facts.title} up to {significant(x, 4)} {facts.unit}\nloss {fixed(y, 3)}" for x, y in pairs
        ]
        style: Trace = {
            "color": series_colour(number), "dash": DASHES[number % len(DASHES)], "width": 2, "shape": "hv"
        }  # fmt: skip
        traces.append(line(text, [x for x, _ in pairs], [y for _, y in pairs], hover, style))
        here: Trace = {"symbol": "circle-open", "size": 10, "color": series_colour(number), "line": {"width": 2}}
        hover = [f"{text}\nloss {fixed(one.best_loss_bits, 3)}"]
        traces.append(points(f"{text}: the bound", [bound.most], [one.best_loss_bits], hover, here, showlegend=False))
        rows += [(one.limit.text, x, y) for x, y in pairs]
    return Figure(
        id=id,
        title=f"Least loss by {facts.title}",
        caption=(
            f"The least inherited loss of the candidates when the bound of {facts.title} moves and the other bounds of "
            "the limit are kept. A ring marks the bound as it is: where the line falls soon to the right of it, a "
            "looser bound pays."
        ),
        traces=traces,
        layout=layout(
            axis(f"{facts.title[0].upper()}{facts.title[1:]}, {facts.unit}"), axis("Validation loss, bits a token")
        ),
        columns=("limit", f"{name} at most", "least inherited loss"),
        rows=rows,
    )
