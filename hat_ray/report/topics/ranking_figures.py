"""The figures of the two studies of a SuperTransformer: what ranks architectures, and how well.

The tables of the two studies of a SuperTransformer as plain rows: page, terminal and Markdown show the same.

Losses are in bits a token, as everywhere. A cell may have a
second line, for its spread or interval.
"""

from collections.abc import Sequence
from statistics import fmean, pstdev

from rich.table import Table
from rich.text import Text

from hat_ray.core.text import UNKNOWN, count, duration, fixed, signed
from hat_ray.report.chart import Figure, Trace, axis, layout, points
from hat_ray.report.topics.frontier import describe
from hat_ray.report.topics.search import NUM_SERIES, NUM_SHADES, SYMBOLS
from hat_ray.studies.results import HealthResult, PolicyStudy, Ranked, ScoredSupernet, Tried, mean_spread
from hat_ray.studies.statistics import Estimate

Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""The names of the columns, and the rows."""


def ranks_table(ranks: Sequence[Ranked], unit: str = "") -> Rows:
    """One row for each way to rank architectures; `unit` is that of regret: bits where it is left out."""
    decimals = 1 if unit else 3
    columns = (
        "ranked by",
        "tau",
        "tau\nwithin bins",
        "less that of\ndecoder layers",
        "Spearman",
        f"regret,\n{unit or 'bits'}",
    )
    rows: list[tuple[str, ...]] = []
    for rank in ranks:
        regret = sum(rank.regrets) / len(rank.regrets) if rank.regrets else None
        gain = difference(rank.gain) if rank.gain is not None else UNKNOWN
        rows.append(
            (
                rank.name,
                estimate(rank.overall),
                estimate(rank.within),
                gain,
                tau(rank.rho),
                fixed(regret, decimals),
            )
        )
    return columns, rows


def study_table(study: PolicyStudy) -> Rows:
    """One row a policy (mean ± standard deviation over its SuperTransformers), then what needs none."""
    columns = (
        *("policy", "updates", "tokens", "time", "loss\nsmallest", "loss\nmean", "loss\nlargest"),
        *("tau", "tau\nwithin bins", "less that of\ndecoder layers", "less that of\nthe first"),
    )
    rows: list[tuple[str, ...]] = []
    for ranks in study.policies:
        nets = study.of(ranks.policy)
        rows.append(
            (
                ranks.policy,
                f"{nets[0].updates:,}",
                count(_mean([net.tokens for net in nets])),
                duration(_mean([net.seconds for net in nets])),
                *(losses(nets, which) for which in ("smallest", "mean", "largest")),
                spread([net.overall for net in nets], 2),
                f"{spread([net.within for net in nets], 2, ' ')}\n{brackets(ranks.within)}".rstrip(),
                difference(ranks.gain_over_layers),
                difference(ranks.gain) if ranks.gain is not None else UNKNOWN,
            )
        )
    for rank in study.baselines:
        gain = difference(rank.gain) if rank.gain is not None else UNKNOWN
        rows.append((rank.name, *[""] * 6, tau(rank.overall.value), estimate(rank.within), gain, ""))
    return columns, rows


def losses(nets: Sequence[ScoredSupernet], which: str) -> str:
    """Return the mean ± standard deviation of one loss over SuperTransformers."""
    return spread([getattr(net, f"{which}_loss_bits") for net in nets], 3)


def estimate(value: Estimate) -> str:
    """Return a figure and, below it, its interval: 0.52 and [0.10, 0.81]."""
    return f"{tau(value.value)}\n{brackets(value)}".rstrip()


def difference(value: Estimate) -> str:
    """Return a difference with its sign and, below it, its interval."""
    return f"{signed(value.value, 2) if value.value is not None else UNKNOWN}\n{brackets(value)}".rstrip()


def tau(value: float | None) -> str:
    """Return a tau with a true minus."""
    return fixed(value, 2).replace("-", "−")


def brackets(value: Estimate) -> str:
    if value.low is None or value.high is None:
        return ""
    return f"[{fixed(value.low, 2)}, {fixed(value.high, 2)}]".replace("-", "−")


def spread(values: list[float | None], decimals: int, between: str = "\n") -> str:
    """Return the mean and, below it, the standard deviation over seeds: 0.52 and ± 0.04."""
    mean, deviation = mean_spread(values)
    return fixed(mean, decimals) + (f"{between}± {fixed(deviation, decimals)}" if deviation is not None else "")


def bin_letter(number: int) -> str:
    """Return a bin's letter: A is the fastest."""
    return chr(ord("A") + number)


def bin_ranges(result: HealthResult | PolicyStudy) -> str:
    """Return each bin's letter with the range of latency that its architectures have."""
    parts = []
    for number in sorted({one.bin for one in result.tried}):
        inside = [one.latency for one in result.tried if one.bin == number]
        parts.append(f"{bin_letter(number)} {_value(min(inside), result)} to {_value(max(inside), result)}")
    return ", ".join(parts)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, numbers on the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "".join(f"| {' | '.join(' '.join(cell.split()) for cell in line)} |\n" for line in lines)


def terminal(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table for the terminal."""
    table = Table(title=Text(title, style="bold"), title_justify="left", show_edge=False, pad_edge=False, box=None)
    for index, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])  # `Text`, because rich reads [brackets] in plain strings
    return table


def study_tables(studies: Sequence[HealthResult | PolicyStudy]) -> list[Table]:
    """Return the tables of finished studies for the terminal."""
    tables = []
    for study in studies:
        bins = f"{len(study.tried)} architectures in bins by {study.latency.name}\n{bin_ranges(study)}"
        if isinstance(study, PolicyStudy):
            seeds = f"mean ± standard deviation over {len(study.of(study.policies[0].policy))} SuperTransformers"
            tables.append(terminal(f"Policies at equal compute, {seeds}\n{bins}", *study_table(study)))
            continue
        tables.append(terminal(f"Validation loss from scratch: what ranks it\n{bins}", *ranks_table(study.loss_ranks)))
        if study.bleu_ranks:
            title = f"BLEU from scratch on {study.bleu_sentences} validation sentences: what ranks it"
            tables.append(terminal(title, *ranks_table(study.bleu_ranks, "BLEU")))
    return tables


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _value(latency: float, result: HealthResult | PolicyStudy) -> str:
    return f"{count(latency)} {result.latency.unit}" if result.latency.proxy else f"{latency:.3g} {result.latency.unit}"


BETWEEN = 0.26
"""Between two marks of one row, in rows."""


def inherited_against_scratch(result: HealthResult, id: str) -> Figure:
    """Inherited loss against loss from scratch; shape and shade by decoder layers, a letter for the latency bin."""
    inherited = list(result.inherited_loss_bits)
    pairs = list(zip(result.tried, inherited, strict=True))
    traces = []
    for i, depth in enumerate(sorted({one.architecture.decoder.depth for one in result.tried})):
        group = [(one, loss) for one, loss in pairs if one.architecture.decoder.depth == depth]
        shade = f"@shade-{min(i, NUM_SHADES - 1) + 1}"
        marker: Trace = {"symbol": SYMBOLS[i % len(SYMBOLS)], "size": 10, "color": shade}
        traces.append(
            points(
                f"{depth} decoder layer{'s' if depth > 1 else ''}",
                [_scratch(one) for one, _ in group],
                [loss for _, loss in group],
                [_hover(one, loss) for one, loss in group],
                marker,
                mode="markers+text",
                text=[bin_letter(one.bin) for one, _ in group],
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
                *(str(one.architecture), one.architecture.id, one.architecture.decoder.depth, bin_letter(one.bin)),
                *(one.latency, one.params, one.flops, loss, _scratch(one), _spread(one)),
            )
            for one, loss in pairs
        ],
    )


def ranks(ranked: Sequence[Ranked], what: str, id: str) -> Figure:
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
        marker: Trace = {"symbol": SYMBOLS[i], "size": 9, "color": _series(i)}
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
    marker: Trace = {"symbol": SYMBOLS[i], "size": 9, "color": _series(i)}
    hover = [f"{n}\n{name}: {fixed(v.value, 2)} {brackets(v)}" for n, v in zip(names, values, strict=True)]
    known = [(v.value, v.low, v.high) for v in values]
    up = [high - value if value is not None and high is not None else 0.0 for value, _, high in known]
    down = [value - low if value is not None and low is not None else 0.0 for value, low, _ in known]
    heights = [place + shift for place in range(len(names))]
    bars = {**_errors(up, down), "color": _series(i)}
    return points(name, [v.value for v in values], heights, hover, marker, error_x=bars)


def _errors(up: Sequence[float], down: Sequence[float] | None = None) -> Trace:
    ends: Trace = {"type": "data", "array": list(up), "color": "@muted", "thickness": 1.2, "width": 3}
    return ends if down is None else {**ends, "symmetric": False, "arrayminus": list(down)}


def _rows_layout(names: Sequence[str], title: str) -> Trace:
    """A layout with one row for each name, the first on top."""
    ticks = list(range(len(names)))
    rows = axis("", tickmode="array", tickvals=ticks, ticktext=list(names), range=[len(names) - 0.5, -0.5])
    return layout(axis(title), rows)


def _series(i: int) -> str:
    return f"@series-{i % NUM_SERIES + 1}"


def _scratch(one: Tried) -> float:
    return one.scratch_mean_bits


def _spread(one: Tried) -> float:
    return pstdev(one.scratch_loss_bits)


def _hover(one: Tried, inherited: float) -> str:
    losses = f"loss inherited {fixed(inherited, 3)} · from scratch {fixed(_scratch(one), 3)}"
    return f"{losses}\nlatency bin {bin_letter(one.bin)}\n{describe(one.architecture)}"
