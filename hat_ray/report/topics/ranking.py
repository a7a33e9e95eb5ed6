"""The two studies of a SuperTransformer: how well inherited weights rank, and which training policy ranks best.

A cell of a table may have a second line, for its spread or interval. Losses are in bits a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table as TerminalTable

from hat_ray.core.text import UNKNOWN, count, duration, fixed, signed
from hat_ray.report.chart import Figure
from hat_ray.report.tables import Table
from hat_ray.report.topics.ranking_charts import bin_ranges, brackets, policy_figures, ranking_figures
from hat_ray.studies.rating import CEILING, LAYERS
from hat_ray.studies.results import PolicyStudy, RankingQuality, RankingResult, ScoredSupernet, mean_spread
from hat_ray.studies.statistics import Estimate


@dataclass(frozen=True)
class Study:
    """What one study found: a sentence, figures and tables."""

    sentence: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    note: str = ""


def ranking(result: RankingResult | None) -> Study | None:
    """Return how well inherited weights rank architectures, if that was studied."""
    if result is None:
        return None
    tables = [ranks_table(result.loss_ranks)]
    if result.bleu_ranks:
        tables.append(ranks_table(result.bleu_ranks, "BLEU"))
    return Study(ranking_sentence(result), ranking_figures(result), tuple(tables))


def policies(study: PolicyStudy | None) -> Study | None:
    """Return which way to train the SuperTransformer ranks best, if that was studied."""
    if study is None:
        return None
    bins = f"Latency bins by {study.latency.name}: {bin_ranges(study)}."
    return Study(policy_sentence(study), policy_figures(study), (study_table(study),), bins)


def ranking_sentence(result: RankingResult) -> str:
    """Return the results in sentences, also where they disappoint."""
    by_name = {one.name: one for one in result.loss_ranks}
    own, layers = result.loss_ranks[0], by_name[LAYERS]
    text = (
        f"Inherited loss orders {len(result.tried)} architectures as training from scratch does with a Kendall tau of "
        f"{fixed(own.overall.value, 2)}, and of {fixed(own.within.value, 2)} within latency bins; counting decoder "
        f"layers alone gives {fixed(layers.overall.value, 2)} and {fixed(layers.within.value, 2)}. {_verdict(own)}"
    )
    ceiling = by_name.get(CEILING)
    if ceiling is not None:
        text += f" One training from scratch reaches {fixed(ceiling.within.value, 2)} within bins against the others."
    return text


def policy_sentence(study: PolicyStudy) -> str:
    """Return which policy ranks best within bins, and whether the difference to the first is more than chance."""
    known = [one for one in study.policies if one.within.value is not None]
    if not known:
        return "The architectures within a latency bin have no order to compare."
    best, first = max(known, key=lambda one: one.within.value or 0.0), study.policies[0]
    text = f"Within latency bins {best.policy} ranks best: tau {fixed(best.within.value, 2)}"
    if best is first:
        return f"{text}. No other policy ranks better than it does."
    gain = best.gain
    sure = gain is not None and gain.low is not None and gain.low > 0
    against = f", against {fixed(first.within.value, 2)} of {first.policy}"
    chance = "more than chance" if sure else "a difference that chance may have made"
    return f"{text}{against}: {chance}, over the choice of these {len(study.tried)} architectures."


def _verdict(own: RankingQuality) -> str:
    gain = own.gain
    if gain is None or gain.low is None or gain.high is None:
        return "Too few architectures share a bin to compare the two."
    if gain.low > 0:
        return "Inherited weights rank better than the layer count."
    if gain.high < 0:
        return "Inherited weights rank worse than the layer count."
    return "Too few architectures to decide whether inherited weights rank better than the layer count."


def ranks_table(ranks: Sequence[RankingQuality], unit: str = "") -> Table:
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
    return Table(f"What ranks {unit or 'the loss'} from scratch", columns, rows)


def study_table(study: PolicyStudy) -> Table:
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
    return Table("Training policies", columns, rows)


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


def spread(values: list[float | None], decimals: int, between: str = "\n") -> str:
    """Return the mean and, below it, the standard deviation over seeds: 0.52 and ± 0.04."""
    mean, deviation = mean_spread(values)
    return fixed(mean, decimals) + (f"{between}± {fixed(deviation, decimals)}" if deviation is not None else "")


def study_tables(studies: Sequence[RankingResult | PolicyStudy]) -> list[TerminalTable]:
    """Return the tables of finished studies for the terminal."""
    tables = []
    for study in studies:
        bins = f"{len(study.tried)} architectures in bins by {study.latency.name}\n{bin_ranges(study)}"
        if isinstance(study, PolicyStudy):
            seeds = f"mean ± standard deviation over {len(study.of(study.policies[0].policy))} SuperTransformers"
            tables.append(study_table(study).terminal(f"Policies at equal compute, {seeds}\n{bins}"))
            continue
        tables.append(ranks_table(study.loss_ranks).terminal(f"Validation loss from scratch: what ranks it\n{bins}"))
        if study.bleu_ranks:
            title = f"BLEU from scratch on {study.bleu_sentences} validation sentences: what ranks it"
            tables.append(ranks_table(study.bleu_ranks, "BLEU").terminal(title))
    return tables


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
