import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sacrebleu

from hat_ray.errors import CorpusError
from hat_ray.evaluate.scoring import floors, nearest_sources, score_text

HYPOTHESES = ["Ein Hund läuft durch den Schnee.", "Zwei Männer spielen Schach.", "", "Die Frau, die dort sitzt, liest."]
REFERENCES = [
    ["Ein Hund rennt durch den Schnee.", "Zwei Männer spielen im Park Schach.", "Hallo.", "Die Frau dort liest."],
    ["Ein Hund läuft im Schnee.", "Zwei Herren spielen Schach.", "Guten Tag.", "Die Frau, die dort sitzt, liest."],
]


@pytest.mark.parametrize("num_references", [1, 2])
def test_scores_equal_sacrebleus_own(num_references: int) -> None:
    references = REFERENCES[:num_references]
    score = score_text(HYPOTHESES, references)
    assert score.bleu == sacrebleu.corpus_bleu(HYPOTHESES, references).score
    assert score.chrf == sacrebleu.corpus_chrf(HYPOTHESES, references).score


def test_score_and_signature_equal_those_of_sacrebleus_command_line(tmp_path: Path) -> None:
    paths = [tmp_path / "hypotheses", tmp_path / "first", tmp_path / "second"]
    for path, lines in zip(paths, [HYPOTHESES, *REFERENCES], strict=True):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for metric in ("bleu", "chrf"):
        command = [sys.executable, "-m", "sacrebleu", str(paths[1]), str(paths[2]), "-i", str(paths[0])]
        command += ["-m", metric, "-w", "6", "--format", "text"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout
        score = score_text(HYPOTHESES, REFERENCES)
        value, signature = (
            (score.bleu, score.bleu_signature) if metric == "bleu" else (score.chrf, score.chrf_signature)
        )
        assert f"{signature} = {value:.6f}" in said


def test_signature_counts_references_and_names_tokenizer_and_version() -> None:
    score = score_text(HYPOTHESES, REFERENCES, tokenizer="intl")
    assert score.bleu_signature == f"nrefs:2|case:mixed|eff:no|tok:intl|smooth:exp|version:{sacrebleu.__version__}"
    assert score.chrf_signature is not None
    assert score.chrf_signature.startswith("nrefs:2|")


def test_chrf_can_be_left_out() -> None:
    score = score_text(HYPOTHESES, REFERENCES, chrf=False)
    assert (score.chrf, score.chrf_signature) == (None, None)


def test_lists_of_different_length_are_refused_with_both_counts() -> None:
    with pytest.raises(CorpusError, match="4 hypotheses and 3 lines in reference 2"):
        score_text(HYPOTHESES, [REFERENCES[0], REFERENCES[1][:3]])
    with pytest.raises(CorpusError, match="at least one sentence"):
        score_text([], [[]])


def test_nearest_source_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(12)]
    train = [" ".join(rng.choice(words, size=rng.integers(0, 7))) for _ in range(200)]
    test = ["W3 w3 w4", "unseen words only", "", *[" ".join(rng.choice(words, size=5)) for _ in range(30)]]

    def jaccard(a: str, b: str) -> float:
        first, second = set(a.lower().split()), set(b.lower().split())
        return len(first & second) / max(1, len(first | second))

    expected = [int(np.argmax(np.float32([jaccard(line, other) for other in train]))) for line in test]
    assert nearest_sources(test, train).tolist() == expected


def read(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().split("\n")[:-1]


def test_floors_of_multi30k_match_its_readme(shared: Path) -> None:
    """The README's nearest-source floor (7.57) does not name its similarity; ours is stricter (see floors.py)."""
    place = shared / "corpora" / "multi30k-en-de"
    train_en, train_de, test_en, test_de = (
        read(place / f"{n}.gz") for n in ("train.en", "train.de", "test.en", "test.de")
    )
    found = floors(test_en, [test_de], train_en, train_de)
    assert found.copy_bleu == pytest.approx(0.48, abs=0.005)
    assert found.copy_chrf == pytest.approx(16.3, abs=0.05)
    assert found.nearest_bleu == pytest.approx(9.61, abs=0.01)
    assert found.nearest_bleu > 7.57
    assert found.nearest_chrf == pytest.approx(33.0, abs=0.1)
    assert found.train_pairs == 29_000
