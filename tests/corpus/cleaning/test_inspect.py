"""The preview of a filter is what the filter does."""

import json
from pathlib import Path

import pytest

from hat_ray.corpus.config import CorpusConfig, FilesConfig
from hat_ray.corpus.inspect import Inspection, inspect_text
from hat_ray.corpus.prepare import prepare
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder
from tests.command import hat_ray
from tests.corpus.cleaning.texts import toy

OFF = {"leaks": "keep", "max_length": 100_000}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Parallel text with something for every filter."""
    place = tmp_path_factory.mktemp("text")
    source, target = (list(lines[:600]) for lines in toy())
    source += ["", *source[:20], "copied line", source[30], "латиница " + source[40], "one", *source[590:600]]
    target += ["x", *target[:20], "copied line", "a new target", target[40], " ".join(target[:12]), *target[100:110]]
    splits = {"train": (source, target), "valid": (source[50:54], target[50:54]), "test": (["a"], ["b"])}
    for split, sides in splits.items():
        for side, lines in zip(("source", "target"), sides, strict=True):
            (place / f"{split}_{side}").write_text("".join(f"{line}\n" for line in lines))
    return {f"{split}_{side}": str(place / f"{split}_{side}") for split in splits for side in ("source", "target")}


def config(text: dict[str, str], **settings: object) -> CorpusConfig:
    values = {"source": "files", "files": FilesConfig(**text), "vocab_size": 300, "byte_fallback": False}
    return CorpusConfig.model_validate({**values, **settings})


def removes(found: Inspection, setting: str, value: str) -> int:
    [preview] = [one for one in found.filters if (one.setting, one.value) == (f"corpus.{setting}", value)]
    assert len(preview.examples) == min(preview.removes, 3)
    return preview.removes


@pytest.mark.parametrize(
    ("setting", "value", "field"),
    [
        ("leaks", "remove", "dropped_leak"),
        ("drop_identical", True, "dropped_identical"),
        ("min_script_share", 0.95, "dropped_script"),
        ("deduplicate", True, "dropped_duplicate"),
        ("deduplicate", "source", "dropped_duplicate"),
        ("deduplicate", "target", "dropped_duplicate"),
        ("deduplicate", "either", "dropped_duplicate"),
        ("max_length", 50, "dropped_long"),
        ("max_ratio", 1.5, "dropped_ratio"),
    ],
)
def test_a_preview_counts_what_the_filter_leaves_out(
    text: dict[str, str], tmp_path: Path, setting: str, value: object, field: str
) -> None:
    alone = config(text, **{**OFF, setting: value})
    summary = prepare(alone, Folder.at(tmp_path), 1)
    count = getattr(summary.train, field)
    assert removes(inspect_text(alone, 1), setting, str(value).lower()) == count > 0


def test_examples_are_the_first_pairs_and_the_recipes_values_are_marked(text: dict[str, str]) -> None:
    found = inspect_text(config(text, max_length=77), 1)
    assert found.pairs == 635
    chosen = {(one.setting, one.value) for one in found.filters if one.chosen}
    assert chosen == {("corpus.leaks", "remove"), ("corpus.max_length", "77")}
    [identical] = [one for one in found.filters if one.setting == "corpus.drop_identical"]
    assert [(one.number, one.source, one.target) for one in identical.examples] == [(622, "copied line", "copied line")]
    assert found.left_out == {"empty": 1, "leak": 4}
    assert inspect_text(config(text), 1, pairs=100).pairs == 100


def test_tokens_have_no_text_to_filter() -> None:
    bin = CorpusConfig.model_validate({"source": "fairseq", "fairseq": {"folder": "x"}})
    with pytest.raises(CorpusError, match="fairseq holds tokens"):
        inspect_text(bin, 1)


def test_the_command_prints_each_filter_with_an_example_and_writes_nothing(text: dict[str, str], tmp_path: Path):
    corpus = {"source": "files", "files": text, "vocab_size": 300, "byte_fallback": False}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"name": "mine", "corpus": corpus}))
    shown = hat_ray("corpus", "inspect", "recipe.yaml", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    place = next(row for row, line in enumerate(lines) if "corpus.drop_identical=true" in line)
    assert " ".join(lines[place].split()) == "corpus.drop_identical=true leaves out 1 (0.2 %)"
    assert lines[place + 1].strip() == "622: copied line | copied line"
    assert lines[-1] == "the recipe leaves out, before lengths are known: 1 empty, 4 leak"
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]
