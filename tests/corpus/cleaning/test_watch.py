"""Text whose sides do not belong together is named with its place, and text as it should be is not."""

import random
from pathlib import Path

import numpy as np
import pytest

from hat_ray.corpus.cleaning.alignment import LengthWindows, misaligned
from hat_ray.corpus.cleaning.finding import TextFinding
from hat_ray.corpus.cleaning.letters import Letters
from hat_ray.corpus.cleaning.sides import SideModel
from hat_ray.corpus.cleaning.watch import TextWatch
from hat_ray.corpus.config import CorpusConfig, FilesConfig
from hat_ray.corpus.splits import Splits
from tests.corpus.cleaning.texts import Fault, Lines, copied, in_script, real, shifted, shuffled, swapped, toy

NAMES = "a.en", "a.de"
FAULTS: dict[str, Fault] = {"shifted": shifted, "shuffled": shuffled, "swapped": swapped, "identical": copied}


def watched(source: Lines, target: Lines, sides: SideModel | None = None, chunk: int = 10_000) -> list[TextFinding]:
    watch = TextWatch("training", Letters(sides))
    for first in range(0, len(source), chunk):
        watch.take(0, source[first : first + chunk], target[first : first + chunk])
    return watch.findings(lambda _part: (f"/somewhere/{NAMES[0]}", NAMES[1]))


def named(source: Lines, target: Lines, sides: SideModel, kind: str, first: int, end: int) -> TextFinding:
    """The one finding, which must be of this kind and at this place, to within a window."""
    [found] = watched(*FAULTS[kind](source, target, first, end), sides)
    assert found.kind == kind
    assert abs(found.first - first - 1) <= 100
    assert abs(found.last - end) <= 100
    assert (found.source_file, found.target_file, found.whole) == (*NAMES, False)
    return found


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("script", ["latin", "cyrillic", "arabic", "han"])
def test_a_fault_of_a_third_of_the_text_is_named_with_its_place(kind: str, script: str) -> None:
    source, target = toy()
    if script != "latin":
        target = [in_script(line, script) for line in target]
    sides = SideModel.of(source[:300], target[:300])
    assert sides is not None
    assert watched(source, target, sides) == []
    found = named(source, target, sides, kind, 1_230, 2_430)
    assert found.lines == (1 if kind == "shifted" else None)
    assert len(found.examples) == 3


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_a_third_of_multi30k_is_named_with_its_place(shared: Path, kind: str) -> None:
    source, target = real(shared, "multi30k-en-de", "train")
    sides = SideModel.of(*real(shared, "multi30k-en-de", "val"))
    assert sides is not None
    found = named(source, target, sides, kind, 11_640, 20_340)
    assert found.line.startswith("training text, pairs 11,")
    assert " of a.en and a.de: " in found.line
    expected = {
        "shifted": "the target stands 1 line behind its source (lengths correlate by -0.",
        "shuffled": "the sides do not belong together",
        "swapped": "the sides are swapped (99% of the pairs); for example: ",
        "identical": "both sides are identical (",
    }
    assert expected[kind] in found.line
    assert "\n" not in found.line
    assert set(found.examples) <= set(zip(*FAULTS[kind](source, target, 11_640, 20_340), strict=True))
    assert found.examples[0] not in set(zip(source, target, strict=True))


@pytest.mark.parametrize("name", ["multi30k-en-de", "tatoeba-en-de"])
def test_real_text_gives_no_false_alarm(shared: Path, name: str) -> None:
    place = shared / "corpora" / name
    names = {
        f"{split}_{side}": str(place / f"{file}.{language}.gz")
        for split, file in (("train", "train"), ("valid", "val"), ("test", "test"))
        for side, language in (("source", "en"), ("target", "de"))
    }
    config = CorpusConfig(source="files", files=FilesConfig(**names))
    survey, findings = Splits.read(config).surveyed(config)
    assert findings == []
    assert survey.kept > 28_000


def test_faults_of_every_split_are_named_in_their_files(tmp_path: Path) -> None:
    """Each split is judged by the others: of three, the one that is swapped is named."""
    source, target = toy()
    rows = {"train": slice(0, 2_000), "valid": slice(2_000, 3_000), "test": slice(3_000, 4_000)}
    files = {f"{split}_{side}": str(tmp_path / f"{split}.{side}") for split in rows for side in ("source", "target")}
    for split, part in rows.items():
        sides = (source[part], target[part]) if split != "test" else (target[part], source[part])
        for side, lines in zip(("source", "target"), sides, strict=True):
            Path(files[f"{split}_{side}"]).write_text("".join(f"{line}\n" for line in lines))
    config = CorpusConfig(source="files", files=FilesConfig(**files))
    [found] = Splits.read(config).surveyed(config)[1]
    assert found.line.startswith("test text, all pairs of test.source and test.target: the sides are swapped")


def test_a_fault_that_is_spread_over_the_text_is_reported_by_its_share() -> None:
    source, target = toy()
    sides = SideModel.of(source[:300], target[:300])
    chosen = set(random.Random(5).sample(range(len(source)), len(source) * 3 // 10))
    ours = [target[row] if row in chosen else line for row, line in enumerate(source)]
    theirs = [source[row] if row in chosen else line for row, line in enumerate(target)]
    [found] = watched(ours, theirs, sides)
    assert (found.kind, found.whole) == ("swapped", True)
    share = int(found.detail.split("%")[0])
    assert abs(share - 30) < 10
    assert "of the pairs, all over the text" in found.detail


@pytest.mark.parametrize(("lines", "said"), [(-3, "3 lines before"), (50, "50 lines behind")])
def test_a_shift_that_lasts_to_the_end_is_one_stretch_over_all_chunks(lines: int, said: str) -> None:
    source, target = toy()
    moved = [*target[:1_500], *target[1_500 - lines :], *["x"] * -lines] if lines < 0 else [
        *target[:1_500], *["x"] * lines, *target[1_500:-lines]
    ]  # fmt: skip
    [found] = watched(source, moved, chunk=1_000)
    assert found.lines == lines
    assert f"the target stands {said} its source" in found.line
    assert abs(found.first - 1_501) <= 100
    assert found.last == len(source)


def test_a_text_that_is_shuffled_throughout_is_found_though_no_part_of_it_is_right() -> None:
    source, target = toy()
    [found] = watched(*shuffled(source, target, 0, len(source)))
    assert (found.kind, found.whole) == ("shuffled", True)


@pytest.mark.parametrize("order", ["by length", "by letters", "random", "repeated"])
def test_the_order_of_the_lines_raises_no_alarm(order: str) -> None:
    source, target = toy()
    keys = {
        "by length": lambda row: len(source[row]),
        "by letters": lambda row: source[row],
        "repeated": lambda row: row,
    }
    rows = sorted(range(len(source)), key=keys.get(order, lambda row: random.Random(row).random()))
    rows = [row for row in rows[:40] for _ in range(100)] if order == "repeated" else rows
    assert watched([source[row] for row in rows], [target[row] for row in rows]) == []


def test_a_pair_of_one_language_has_no_sides() -> None:
    source, _ = toy()
    assert SideModel.of(source[:500], source[500:1_000]) is None
    assert SideModel.of(source[:20], source[:20]) is None


def test_text_of_less_than_a_window_and_lines_without_text_decide_nothing() -> None:
    assert watched(["a"] * 99, ["b c"] * 99) == []
    short = [lines[:99] for lines in toy()]
    assert watched(short[0], short[1], SideModel.of(*toy())) == []
    assert watched([""] * 300, ["b c"] * 300) == []
    assert misaligned(LengthWindows.joined([])) == []
    assert misaligned(LengthWindows.of(np.zeros(0, np.int64), np.zeros(0, np.int64))) == []
