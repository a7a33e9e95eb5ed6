"""What a sweep found, in words and tables: page and terminal show the same. Every sentence follows from the figures."""

import math

from rich.table import Table

from hat_ray.latency.influence import Influence, SweepResult, SweptDevice, TimedPoint, TimedSweep, strength
from hat_ray.report.numbers import fixed, milliseconds, signed, significant
from hat_ray.report.rank_tables import Rows, terminal
from hat_ray.space.architecture import Architecture

NAMES = {
    "encoder_embed_dims": "encoder width",
    "encoder_depths": "encoder layers",
    "encoder_ffn_dims": "encoder FFN width",
    "encoder_heads": "encoder heads",
    "decoder_embed_dims": "decoder width",
    "decoder_depths": "decoder layers",
    "decoder_ffn_dims": "decoder FFN width",
    "decoder_self_heads": "decoder self heads",
    "decoder_cross_heads": "decoder cross heads",
    "decoder_cross_layers": "layers attended",
}
COLUMNS = (
    *("dimension", "from – to", "latency\nms", "latency\nratio", "FLOPs\nratio"),
    *("encoder\nms more", "decoder\nms more"),
)
MATTERS = 0.05
"""A dimension is named when it changes latency by this share at least, and by more than the error."""
_NAMED = 3  # dimensions in a sentence
_UNCERTAIN = 0.05  # relative error of a median from which on readers are warned
_MISLED = 1.1  # FLOPs and latency whose ratios differ by less do not contradict one another


def name_of(dimension: str) -> str:
    """Return a dimension's name for readers."""
    return NAMES.get(dimension, dimension)


def times(ratio: float) -> str:
    """Return a ratio as readers like it: ×1.05, ×2.4, ×12."""
    return f"×{fixed(ratio, 2 if ratio < 2 else 1)}" if ratio < 10 else f"×{significant(ratio)}"


def sweep_table(result: SweepResult, slug: str) -> Rows:
    """One row for each dimension on a device, the most influential first."""
    return COLUMNS, [_row(one) for one in result.on(slug)]


def sweep_tables(result: SweepResult) -> list[Table]:
    """Return one table a device for the terminal, with what it says above it."""
    return [
        terminal(f"{device.title}\n{sweep_sentence(result, device)}", *sweep_table(result, device.slug))
        for device in result.devices
    ]


def sweep_sentence(result: SweepResult, device: SweptDevice) -> str:
    """Say which dimensions matter on a device, which do not, and where FLOPs say otherwise."""
    sweeps = result.on(device.slug)
    strong = [one for one in sweeps if _matters(one.influence)][:_NAMED]
    others = [one for one in sweeps if one not in strong]
    if not strong:
        found = f"No dimension changes latency by more than {_most(others)} %: too little to tell from the noise."
        return f"{found}{_caution(sweeps)}"
    named = "; ".join(_named(one) for one in strong)
    rest = f". {_rest(others)}" if others else "."
    return f"{_capital(named)}{rest}{_misled(sweeps)}{_caution(sweeps)}"


def _matters(influence: Influence) -> bool:
    return influence.is_sure and strength(influence) > math.log(1 + MATTERS)


def _named(one: TimedSweep) -> str:
    first, last = one.points[0], one.points[-1]
    return f"{name_of(one.dimension)} {first.choice} to {last.choice}: {times(one.influence.ratio)}"


def _rest(others: list[TimedSweep]) -> str:
    if len(others) == 1:
        return f"{_capital(name_of(others[0].dimension))} changes it by {_most(others)} %."
    return f"The other {len(others)} dimensions change it by {_most(others)} % at most."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _most(sweeps: list[TimedSweep]) -> str:
    """Return the largest change of latency among dimensions, in per cent."""
    return significant(max(100 * (math.exp(strength(one.influence)) - 1) for one in sweeps), 2)


def _caution(sweeps: list[TimedSweep]) -> str:
    """Warn of a device that was too busy to be timed well."""
    worst = max((point.relative_error or 0.0 for one in sweeps for point in one.points), default=0.0)
    if worst <= _UNCERTAIN:
        return ""
    return f" Caution: the device was not quiet, medians here have errors of up to {significant(100 * worst, 2)} %."


def base_words(base: Architecture) -> str:
    """Return an architecture whose layers are all alike in few words."""
    e, d = base.encoder, base.decoder
    return (
        f"encoder {e.embed_dim}×{e.depth}, FFN {e.ffn_dims[0]}, {e.heads[0]} heads; decoder {d.embed_dim}×{d.depth}, "
        f"FFN {d.ffn_dims[0]}, {d.self_heads[0]} self and {d.cross_heads[0]} cross heads, "
        f"{d.cross_layers[0]} layers attended"
    )


def _misled(sweeps: list[TimedSweep]) -> str:
    """Name the dimension whose FLOPs say least about its latency."""
    worst = max(sweeps, key=lambda one: abs(math.log(one.influence.flops_ratio / one.influence.ratio)))
    flops, latency = worst.influence.flops_ratio, worst.influence.ratio
    if worst.influence.low / _MISLED <= flops <= worst.influence.high * _MISLED:
        return ""
    return f" FLOPs mislead most on {name_of(worst.dimension)}: {times(flops)} the FLOPs, {times(latency)} the latency."


def _row(one: TimedSweep) -> tuple[str, ...]:
    first, last, found = one.points[0], one.points[-1], one.influence
    return (
        name_of(one.dimension),
        f"{first.choice} – {last.choice}",
        f"{significant(first.ms)} – {significant(last.ms)}",
        f"{times(found.ratio)}\n[{fixed(found.low, 2)}, {fixed(found.high, 2)}]",
        times(found.flops_ratio),
        signed(found.encoder_ms, 2),
        signed(found.decoder_ms, 2),
    )


def point_words(dimension: str, point: TimedPoint, base_ms: float) -> str:
    """Return a point as a few short lines for a hover label."""
    spread = f" ({significant(point.p10_ms)} – {significant(point.p90_ms)})" if point.p10_ms is not None else ""
    return (
        f"{name_of(dimension)} {point.choice}\n"
        f"{milliseconds(point.ms)}{spread}, {times(point.ms / base_ms)} the base\n"
        f"encoder {milliseconds(point.encoder_ms)} · decoder {milliseconds(point.decoder_ms)}"
    )
