"""The tables of the two studies of a SuperTransformer as plain rows: page, terminal and Markdown show the same.

Losses are shown in nats a token, as everywhere in the report; the studies' own files hold bits. A cell may have a
second line, for its spread or interval.
"""

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from hat_ray.health.ranking import Estimate
from hat_ray.health.result import HealthResult, PolicyStudy, Ranked, ScoredSupernet, mean_spread
from hat_ray.report.numbers import UNKNOWN, count, duration, fixed, signed

NATS = math.log(2)
Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""The names of the columns, and the rows."""


def ranks_table(ranks: Sequence[Ranked], unit: str = "") -> Rows:
    """One row for each way to rank architectures; `unit` is that of regret: nats where it is left out."""
    scale, decimals = (1.0, 1) if unit else (NATS, 3)
    columns = (
        "ranked by",
        "tau",
        "tau\nwithin bins",
        "less that of\ndecoder layers",
        "Spearman",
        f"regret,\n{unit or 'nats'}",
    )
    rows: list[tuple[str, ...]] = []
    for rank in ranks:
        regret = scale * sum(rank.regrets) / len(rank.regrets) if rank.regrets else None
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
    return spread([getattr(net, f"{which}_loss_bits") * NATS for net in nets], 3)


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
