"""What `hat-ray evaluate` prints."""

from hat_ray.cli.output import score_lines
from hat_ray.evaluate.evaluate import EvaluatedModel, EvaluateOutput, Score
from hat_ray.evaluate.scoring import Floors


def test_each_model_is_printed_with_signatures_speed_memory_and_the_floors() -> None:
    score = Score(38.72, "nrefs:1", 62.9, "case:mixed", 1.0, 100, 5, 1.0, 4.0, 25.0, 512 * 2**20)
    found = EvaluateOutput({"0a1b": EvaluatedModel(score, {})}, Floors(0.5, None, 9.6, None, 100))
    assert score_lines(found) == [
        "0a1b: BLEU 38.7 (nrefs:1), chrF 62.9 (case:mixed); 25.0 sentences a second, peak memory 512 MiB",
        "floors: copying the source 0.5 BLEU, the nearest training source's translation 9.6",
    ]
    without = Score(38.72, "nrefs:1", None, None, 1.0, 100, 5, 1.0, 4.0, 25.0, 512 * 2**20)
    assert score_lines(EvaluateOutput({"0a1b": EvaluatedModel(without, {})}, None)) == [
        "0a1b: BLEU 38.7 (nrefs:1); 25.0 sentences a second, peak memory 512 MiB"
    ]
