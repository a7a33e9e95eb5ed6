"""Whole sentences on what a winner brings on its device, also where it disappoints."""

from hat_ray.core.text import fixed, milliseconds, significant
from hat_ray.corpus.corpus import leak_warning
from hat_ray.latency.quantities import LATENCY, QUANTITIES
from hat_ray.report.data import ChosenModel, ReportData
from hat_ray.report.gains import gain_sentence
from hat_ray.report.reading import compare, latency_ms, limit_verdict, measured_of
from hat_ray.search.limits import Verdict


def findings(data: ReportData, winner: ChosenModel, device: str) -> list[str]:
    """Return whole sentences on what a winner brings on its device."""
    limit = _limit(winner, device) or _not_timed(data, winner, device)
    sentences = [_against_largest(data, winner, device), limit, gain_sentence(data, winner, device)]
    sentences += [_floor(data, winner), _leak(data), _text(data)]
    return [sentence for sentence in sentences if sentence]


def _against_largest(data: ReportData, winner: ChosenModel, device: str) -> str:
    needs = f"The chosen model needs {milliseconds(latency_ms(winner, device))} a sentence"
    largest = data.first("largest")
    if largest is None:
        return f"{needs}."
    if largest.architecture == winner.architecture:
        return f"{needs}: it is the largest architecture itself, so the limit leaves nothing to gain."
    compared = compare(winner, largest, device)
    if compared.speedup is None:
        return f"{needs}."
    pace = _pace(compared.speedup)
    speed = f"{needs} instead of {milliseconds(latency_ms(largest, device))} ({pace} than the largest architecture)"
    return f"{speed}{_bleu_text(compared.bleu, winner, largest)}."


def _pace(speedup: float) -> str:
    return f"{fixed(speedup, 1)}× faster" if speedup >= 1 else f"{fixed(1 / speedup, 1)}× slower"


def _bleu_text(gain: float | None, model: ChosenModel, other: ChosenModel) -> str:
    if gain is None:
        return ""
    scores = f"({fixed(model.bleu, 1)} against {fixed(other.bleu, 1)})"
    if abs(gain) < 0.05:
        return f" at equal BLEU {scores}"
    return f" and {'gains' if gain > 0 else 'loses'} {fixed(abs(gain), 1)} BLEU {scores}"


def _limit(winner: ChosenModel, device: str) -> str:
    found, measured = limit_verdict(winner, device), measured_of(winner, device)
    if found is Verdict.NOT_MEASURED or winner.limit is None:
        return ""
    if found is Verdict.KEPT:
        return f"It keeps its limit of {winner.limit.text}."
    above, name = max((measured[name].value / most - 1, name) for name, most in winner.limit.bounds if name in measured)
    over, what = significant(above * 100, 2), "" if name == LATENCY else f" in {QUANTITIES.facts(name).title}"
    if found is Verdict.WITHIN_ERROR:
        return f"It is {over} % above its limit of {winner.limit.text}{what}, within the error of the measurement."
    return f"It misses its limit of {winner.limit.text} by {over} %{what}: the predictor underestimated it."


def _not_timed(data: ReportData, winner: ChosenModel, device: str) -> str:
    """Return that a limit rests on a prediction, where only a latency table knows the device."""
    if winner.limit is None or not any(one.slug == device and not one.attached for one in data.devices):
        return ""
    return (
        f"That it keeps its limit of {winner.limit.text} is a prediction: only a latency table knows the device, "
        "and nothing was timed again."
    )


def _floor(data: ReportData, winner: ChosenModel) -> str:
    floor = max((f for f in (data.corpus.copy_bleu, data.corpus.nearest_bleu) if f is not None), default=None)
    if floor is None or winner.bleu is None or winner.bleu > floor:
        return ""
    return (
        f"Its {fixed(winner.bleu, 1)} BLEU does not pass the floor of {fixed(floor, 1)} that needs no model: "
        "it has not learnt to translate yet."
    )


def _leak(data: ReportData) -> str:
    leak = leak_warning(data.corpus.test_sources_in_train, data.corpus.valid_sources_in_train)
    return f"Caution: {leak}." if leak else ""


def _text(data: ReportData) -> str:
    places = len(data.corpus.text_findings)
    if not places:
        return ""
    where = "a place" if places == 1 else f"{places} places"
    return f"Caution: the sides of the text do not belong together, or are not what they should be, in {where}."
