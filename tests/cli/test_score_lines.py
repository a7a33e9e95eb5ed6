"""What `hat-ray evaluate` tells."""

from hat_ray.cli.output import score_lines


def test_each_model_is_told_with_signatures_speed_memory_and_the_floors() -> None:
    score = {
        **{"bleu": 38.72, "bleu_signature": "nrefs:1", "chrf": 62.9, "chrf_signature": "case:mixed"},
        **{"sentences": 100, "seconds": 4.0, "peak_memory_bytes": 512 * 2**20},
    }
    floors = {"copy_bleu": 0.5, "nearest_bleu": 9.6}
    assert score_lines({"models": {"0a1b": {"score": score}}, "floors": floors}) == [
        "0a1b: BLEU 38.7 (nrefs:1), chrF 62.9 (case:mixed); 25.0 sentences a second, peak memory 512 MiB",
        "floors: copying the source 0.5 BLEU, the nearest training source's translation 9.6",
    ]
    older = {name: value for name, value in score.items() if name != "peak_memory_bytes"} | {"chrf": None}
    assert score_lines({"models": {"0a1b": {"score": older}}, "floors": None}) == [
        "0a1b: BLEU 38.7 (nrefs:1); 25.0 sentences a second, peak memory 0 MiB"
    ]
