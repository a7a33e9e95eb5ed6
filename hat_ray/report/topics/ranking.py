"""The page's sections of the two studies of a SuperTransformer."""

from collections.abc import Sequence

from hat_ray.core.text import fixed
from hat_ray.report.chart import Figure
from hat_ray.report.data import ReportData
from hat_ray.report.html import Markup, element
from hat_ray.report.parts import figure, lined_table, section
from hat_ray.report.topics import ranking_figures as rank_figures
from hat_ray.report.topics.ranking_figures import bin_ranges, ranks_table, study_table
from hat_ray.studies.rating import CEILING, LAYERS
from hat_ray.studies.results import HealthResult, PolicyStudy, Ranked


def health_figures(data: ReportData) -> list[Figure]:
    """Draw how well the SuperTransformer ranks, if that was studied."""
    result = data.health
    if result is None:
        return []
    drawn = [
        rank_figures.inherited_against_scratch(result, "health-losses"),
        rank_figures.ranks(result.loss_ranks, "loss", "health-ranks"),
    ]
    return [*drawn, rank_figures.ranks(result.bleu_ranks, "BLEU", "health-bleu")] if result.bleu_ranks else drawn


def policy_figures(data: ReportData) -> list[Figure]:
    """Draw how policies compare, if that was studied."""
    study = data.policies
    if study is None:
        return []
    return [rank_figures.policy_ranks(study, "policy-ranks"), rank_figures.policy_losses(study, "policy-losses")]


def health(data: ReportData, drawn: Sequence[Figure]) -> Markup | None:
    """How well inherited weights rank architectures."""
    result = data.health
    if result is None:
        return None
    tables = [lined_table(*ranks_table(result.loss_ranks), caption="What ranks the loss from scratch")]
    if result.bleu_ranks:
        tables.append(lined_table(*ranks_table(result.bleu_ranks, "BLEU"), caption="What ranks BLEU from scratch"))
    return section(
        "health",
        "How well inherited weights rank",
        health_sentence(result),
        element("div", [figure(one) for one in drawn], class_="figures"),
        tables,
    )


def policies(data: ReportData, drawn: Sequence[Figure]) -> Markup | None:
    """Which way to train the SuperTransformer ranks best."""
    study = data.policies
    if study is None:
        return None
    return section(
        "policies",
        "Training policies at equal compute",
        policy_sentence(study),
        element("div", [figure(one) for one in drawn], class_="figures"),
        lined_table(*study_table(study), caption="Training policies"),
        element("p", f"Latency bins by {study.latency.name}: {bin_ranges(study)}.", class_="quiet"),
    )


def health_sentence(result: HealthResult) -> str:
    """Say what was found, also where it disappoints."""
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
    """Say which policy ranks best within bins, and whether the difference to the first is more than chance."""
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


def _verdict(own: Ranked) -> str:
    gain = own.gain
    if gain is None or gain.low is None or gain.high is None:
        return "Too few architectures share a bin to compare the two."
    if gain.low > 0:
        return "Inherited weights tell more than the layer count."
    if gain.high < 0:
        return "Inherited weights tell less than the layer count."
    return "Whether inherited weights tell more than the layer count cannot be said from so few architectures."
