"""The figures of the two studies of a SuperTransformer: what ranks architectures, and how well.

Losses are in bits a token, as everywhere.
"""

from collections.abc import Sequence
from statistics import fmean, pstdev

from hat_ray.core.text import count, fixed
from hat_ray.report.chart import SYMBOLS, Figure, Trace, axis, layout, points, series_colour, shade
from hat_ray.report.topics.frontier import describe
from hat_ray.studies.results import PolicyStudy, RankingQuality, RankingResult, ScratchTrained
from hat_ray.studies.statistics import Estimate

BETWEEN = 0.26
"""Between two marks of one row, in rows."""


def ranking_figures(result: RankingResult) -> tuple[Figure, ...]:
    """Draw how well a SuperTransformer ranks."""
    drawn = (
        inherited_against_scratch(result, "ranking-losses"),
        ranks(result.loss_ranks, "loss", "ranking-ranks"),
    )
    return (*drawn, ranks(result.bleu_ranks, "BLEU", "ranking-bleu")) if result.bleu_ranks else drawn


def policy_figures(study: PolicyStudy) -> tuple[Figure, ...]:
    """Draw how policies compare."""
    return policy_ranks(study, "policy-ranks"), policy_losses(study, "policy-losses")


def inherited_against_scratch(result: RankingResult, id: str) -> Figure:
    """Inherited loss against loss from scratch; shape and shade by decoder layers, a letter for the latency bin."""
    inherited = list(result.inherited_loss_bits)
    pairs = list(zip(result.tried, inherited, strict=True))
    traces = []
    for i, depth in enumerate(sorted({one.architecture.decoder.depth for one in result.tried})):
        group = [(one, loss) for one, loss in pairs if one.architecture.decoder.depth == depth]
        marker: Trace = {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 10, "color": shade(i)}
        traces.append(
            points(
                f"{depth} decoder layer{'s' if depth > 1 else ''}",
                [_scratch(one) for one, _ in group],
                [loss for _, loss in group],
                [_hover(one, loss) for one, loss in group],
                marker,
                mode="markers+text",
                text=[bin_label(one.bin) for one, _ in group],
                textposition="middle right",
                error_x=_errors([_spread(one) for one, _ in group]),
            )
        )
    seeds = len(result.tried[0].scratch_loss_bits)
    return Figure(
        id=id,
        title="Inherited loss against loss from scratch",
        caption=(
            f"{len(pairs)} architectures, each trained from scratch {seeds} time{'s' if seeds > 1 else ''} (bars: "
            f"standard deviation). Letters are latency bins by {result.latency.name}: {bin_ranges(result)}. "
            "Inherited weights rank well where points rise from left to right, also among those of one letter."
        ),
        traces=traces,
        layout=layout(
            axis("Validation loss from scratch, bits a token"), axis("Validation loss with inherited weights")
        ),
        columns=(
            *("architecture", "id", "decoder layers", "latency bin", f"latency, {result.latency.unit}", "parameters"),
            *("FLOPs", "loss inherited", "loss from scratch", "its standard deviation"),
        ),
        rows=[
            (
                *(str(one.architecture), one.architecture.id, one.architecture.decoder.depth, bin_label(one.bin)),
                *(one.latency, one.params, one.flops, loss, _scratch(one), _spread(one)),
            )
            for one, loss in pairs
        ],
    )


def ranks(ranked: Sequence[RankingQuality], what: str, id: str) -> Figure:
    """Kendall's tau of each way to rank, overall and within bins, with intervals."""
    names = [one.name for one in ranked]
    kinds = (("within latency bins", [one.within for one in ranked]), ("overall", [one.overall for one in ranked]))
    return Figure(
        id=id,
        title=f"What ranks {what} from scratch",
        caption=(
            "Kendall's tau with intervals of 95 % over the choice of architectures. What counts is the order within a "
            "latency bin: a search compares architectures of equal latency. The last row is the ceiling, where there "
            "are several seeds: how one training from scratch ranks like the others."
        ),
        traces=[_taus(name, names, values, i, (i - 0.5) * BETWEEN) for i, (name, values) in enumerate(kinds)],
        layout=_rows_layout(names, "Kendall's tau"),
        columns=("ranked by", "pairs", "tau", "low", "high"),
        rows=[
            (name, kind, one.value, one.low, one.high)
            for kind, values in kinds
            for name, one in zip(names, values, strict=True)
        ],
    )


def policy_ranks(study: PolicyStudy, id: str) -> Figure:
    """Kendall's tau within latency bins: each policy's mean with its interval and each SuperTransformer, baselines."""
    rows: list[tuple[str, Estimate]] = [(one.policy, one.within) for one in study.policies]
    rows += [(one.name, one.within) for one in study.baselines]
    names = [name for name, _ in rows]
    places = {name: place + BETWEEN for place, name in enumerate(names)}
    nets = [net for net in study.supernets if net.within is not None and net.policy in places]
    hover = [f"{net.policy}, seed {net.seed}\ntau within bins {fixed(net.within, 2)}" for net in nets]
    dots: Trace = {"symbol": "circle-open", "size": 8, "color": "@series-2"}
    return Figure(
        id=id,
        title="Which policy ranks best",
        caption=(
            "Kendall's tau within latency bins against training from scratch. Bars are intervals of 95 % over the "
            "choice of architectures around the mean of all seeds; circles are single SuperTransformers."
        ),
        traces=[
            _taus("mean of the seeds", names, [one for _, one in rows], 0),
            points(
                "one SuperTransformer", [net.within for net in nets], [places[net.policy] for net in nets], hover, dots
            ),
        ],
        layout=_rows_layout(names, "Kendall's tau within latency bins"),
        columns=("ranked by", "seed", "tau within bins", "low", "high"),
        rows=[(name, "mean", one.value, one.low, one.high) for name, one in rows]
        + [(net.policy, net.seed, net.within, None, None) for net in nets],
    )


def policy_losses(study: PolicyStudy, id: str) -> Figure:
    """Inherited loss of the smallest, the tried and the largest architectures under each policy."""
    kinds = ("smallest", "mean", "largest")
    names = [one.policy for one in study.policies]
    traces, rows = [], []
    for i, kind in enumerate(kinds):
        values = [[getattr(net, f"{kind}_loss_bits") for net in study.of(name)] for name in names]
        means, spreads = [fmean(one) for one in values], [pstdev(one) for one in values]
        hover = [f"{n}\n{kind}: {fixed(m, 3)} ± {fixed(s, 3)}" for n, m, s in zip(names, means, spreads, strict=True)]
        marker: Trace = {"symbol": SYMBOLS[i], "size": 9, "color": series_colour(i)}
        title = "mean of those tried" if kind == "mean" else kind
        traces.append(points(title, means, list(range(len(names))), hover, marker, error_x=_errors(spreads)))
        rows += [(n, kind, m, s) for n, m, s in zip(names, means, spreads, strict=True)]
    return Figure(
        id=id,
        title="Which policy inherits the least loss",
        caption="Validation loss with inherited weights, mean and standard deviation over SuperTransformers.",
        traces=traces,
        layout=_rows_layout(names, "Validation loss, bits a token"),
        columns=("policy", "architectures", "loss", "standard deviation"),
        rows=rows,
    )


def _taus(name: str, names: Sequence[str], values: Sequence[Estimate], i: int, shift: float = 0) -> Trace:
    """One mark a row, with its interval; `shift` moves it down, in rows."""
    marker: Trace = {"symbol": SYMBOLS[i], "size": 9, "color": series_colour(i)}
    hover = [f"{n}\n{name}: {fixed(v.value, 2)} {brackets(v)}" for n, v in zip(names, values, strict=True)]
    known = [(v.value, v.low, v.high) for v in values]
    up = [high - value if value is not None and high is not None else 0.0 for value, _, high in known]
    down = [value - low if value is not None and low is not None else 0.0 for value, low, _ in known]
    heights = [place + shift for place in range(len(names))]
    bars = {**_errors(up, down), "color": series_colour(i)}
    return points(name, [v.value for v in values], heights, hover, marker, error_x=bars)


def _errors(up: Sequence[float], down: Sequence[float] | None = None) -> Trace:
    ends: Trace = {"type": "data", "array": list(up), "color": "@muted", "thickness": 1.2, "width": 3}
    return ends if down is None else {**ends, "symmetric": False, "arrayminus": list(down)}


def _rows_layout(names: Sequence[str], title: str) -> Trace:
    """A layout with one row for each name, the first on top."""
    ticks = list(range(len(names)))
    rows = axis("", tickmode="array", tickvals=ticks, ticktext=list(names), range=[len(names) - 0.5, -0.5])
    return layout(axis(title), rows)


def _scratch(one: ScratchTrained) -> float:
    return one.scratch_mean_bits


def _spread(one: ScratchTrained) -> float:
    return pstdev(one.scratch_loss_bits)


def _hover(one: ScratchTrained, inherited: float) -> str:
    losses = f"loss inherited {fixed(inherited, 3)} · from scratch {fixed(_scratch(one), 3)}"
    return f"{losses}\nlatency bin {bin_label(one.bin)}\n{describe(one.architecture)}"


def brackets(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return ""
    return f"[{fixed(value.low, 2)}, {fixed(value.high, 2)}]".replace("-", "−")


def bin_label(number: int) -> str:
    """Return a bin's letter: A is the fastest."""
    return chr(ord("A") + number)


def bin_ranges(result: RankingResult | PolicyStudy) -> str:
    """Return each bin's letter with the range of latency that its architectures have."""
    parts = []
    for number in sorted({one.bin for one in result.tried}):
        inside = [one.latency for one in result.tried if one.bin == number]
        parts.append(f"{bin_label(number)} {_value(min(inside), result)} to {_value(max(inside), result)}")
    return ", ".join(parts)


def _value(latency: float, result: RankingResult | PolicyStudy) -> str:
    return f"{count(latency)} {result.latency.unit}" if result.latency.proxy else f"{latency:.3g} {result.latency.unit}"
