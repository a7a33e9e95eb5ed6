"""Two systems on the same sentences: sacreBLEU's own numbers, from compressed files, with several references."""

import bz2
import gzip
import json
import lzma
import random
from pathlib import Path

import pyarrow as pa
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest

from hat_ray.errors import HatRayError
from hat_ray.evaluate.metrics import score_by
from hat_ray.evaluate.scoring import score_text
from hat_ray.evaluate.significance import compare_systems
from hat_ray.storage.packed_text import read_lines
from tests.command import hat_ray

WORDS = [f"w{index}" for index in range(30)]
_DRAW = random.Random(0)
REFERENCES = [" ".join(_DRAW.choices(WORDS, k=12)) for _ in range(120)]


def noisy(share: float, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(w if draw.random() > share else draw.choice(WORDS) for w in line.split()) for line in REFERENCES]


def written(path: Path, lines: list[str], ends: str = "\n") -> Path:
    content = "".join(f"{line}{ends}" for line in lines).encode()
    packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    if path.suffix == ".zst":
        content = pa.compress(content, "zstd", asbytes=True)
    path.write_bytes(packed.get(path.suffix, bytes)(content))
    return path


def test_values_are_those_of_sacrebleus_own_test() -> None:
    mine, other = noisy(0.1, 1), noisy(0.13, 2)
    metrics = {"BLEU": BLEU(), "chrF": CHRF(), "TER": TER()}
    systems = [("mine", mine), ("other", other)]
    signatures, theirs = PairedTest(systems, metrics, [REFERENCES], test_type="bs", n_samples=1000)()
    found = compare_systems(mine, other, [REFERENCES], metrics=("bleu", "chrf", "ter"))
    assert [one.metric for one in found] == ["BLEU", "chrF", "TER"]
    for ours, name in zip(found, ("BLEU", "chrF2", "TER"), strict=True):
        baseline, second = theirs[name]
        assert (ours.first, ours.second, ours.p) == (baseline.score, second.score, second.p_value)
        assert ours.signature == str(signatures[name])
        assert ours.interval == pytest.approx((baseline.mean - baseline.ci, baseline.mean + baseline.ci))
        assert ours.other_interval == pytest.approx((second.mean - second.ci, second.mean + second.ci))


def test_chance_is_separated_from_a_difference_and_equal_texts_are_alike() -> None:
    [real] = compare_systems(noisy(0.1, 1), noisy(0.2, 2), [REFERENCES], metrics=("bleu",))
    [chance] = compare_systems(noisy(0.1, 1), noisy(0.1, 3), [REFERENCES], metrics=("bleu",))
    [equal] = compare_systems(noisy(0.1, 1), noisy(0.1, 1), [REFERENCES], metrics=("bleu",))
    assert real.p < 0.01
    assert chance.p > 0.05
    assert equal.p == 1.0


def test_chrf_and_ter_are_sacrebleus_with_their_signatures() -> None:
    lines = noisy(0.2, 1)
    plus, ter = score_by(("chrf++", "ter"), lines, [REFERENCES], "13a")
    assert (plus.metric, plus.score) == ("chrF++", CHRF(word_order=2).corpus_score(lines, [REFERENCES]).score)
    assert "nw:2" in plus.signature
    assert (ter.metric, ter.score) == ("TER", TER().corpus_score(lines, [REFERENCES]).score)
    assert "norm:no" in ter.signature
    [asian] = score_by(("ter",), ["犬が走る"], [["犬が走った"]], "zh")
    assert "asian:yes" in asian.signature
    assert 0 < asian.score < 100  # by characters: as one word it would be 100
    text = score_text(lines, [REFERENCES], others=("ter",))
    assert text.others == (ter,)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_the_command_reads_any_packing_and_line_ends(tmp_path: Path, suffix: str) -> None:
    a = written(tmp_path / f"a{suffix}", noisy(0.1, 1), "\r\n")
    b, first = written(tmp_path / "b.txt", noisy(0.2, 2)), written(tmp_path / "first.txt", REFERENCES)
    second = written(tmp_path / f"second.txt{suffix}", noisy(0.05, 9), "\r\n")
    command = ["evaluate", "compare", a, b, "--reference", first, "--reference", second, "--metric", "bleu", "--json"]
    done = hat_ray(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    references = [REFERENCES, noisy(0.05, 9)]
    [expected] = compare_systems(noisy(0.1, 1), noisy(0.2, 2), references, metrics=("bleu",))
    assert found["first"] == expected.first
    assert found["p"] == expected.p
    assert "nrefs:2" in found["signature"]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["a", "b", "--reference", "short"], "got 120 in A, 120 in B, 3 in reference 1"),
        (
            ["a", "b", "--reference", "a", "--metric", "meteor"],
            "--metric must be bleu, chrf, chrf++, ter, comet, got 'meteor'",
        ),
        (["a", "b", "--reference", "cut.gz"], "is damaged and cannot be unpacked"),
        (["a", "b", "--reference", "a", "--tokenizer", "moses"], "the tokenizer must be one of auto, 13a"),
        (["a", "nowhere", "--reference", "a"], "B: text nowhere does not exist"),
    ],
)
def test_mistakes_are_reported_in_one_line(tmp_path: Path, arguments: list[str], rule: str) -> None:
    written(tmp_path / "a", noisy(0.1, 1))
    written(tmp_path / "b", noisy(0.1, 2))
    written(tmp_path / "short", REFERENCES[:3])
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"one line\n" * 99)[:-12])
    done = hat_ray("evaluate", "compare", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert rule in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_small_file_that_would_become_a_large_one_is_refused_within_its_bound(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(b"a\n" * 5_000_000))
    with pytest.raises(HatRayError, match="has more than 1000 bytes"):
        read_lines(bomb, "text", HatRayError, 1_000)
    assert len(read_lines(bomb, "text", HatRayError)) == 5_000_000
