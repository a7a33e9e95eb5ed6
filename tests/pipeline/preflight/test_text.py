"""The text of a corpus: what is wrong with it is told first, and the limits of its vocabulary are SentencePiece's."""

import gzip
import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.corpus.config import CorpusConfig, FilesConfig
from hat_ray.corpus.protection.spans import SYMBOLS
from hat_ray.corpus.vocabulary.config import VocabularyConfig
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.errors import CheckError, CorpusError
from hat_ray.pipeline.preflight.text import vocabulary_bounds

NAMES = [f"{split}_{side}" for split in ("train", "valid", "test") for side in ("source", "target")]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_text("a b c d\nb c d e f\nc a\nd e a b\n" * 20)
    corpus = {
        "source": "files",
        "vocab_size": 12,
        "byte_fallback": False,
        "leaks": "keep",
        "protect": 0,
        "files": {n: n for n in NAMES},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps({"name": "mine", "corpus": corpus, "evaluate": {"beam": 1}}))
    return tmp_path / "recipe.yaml"


def refused(recipe: Path, *more: str) -> str:
    """Return why a run is refused; nothing of it stands in its folder."""
    place = recipe.parent / "run"
    command = ["run", str(recipe), "--local", "--data", str(recipe.parent), "--run", str(place), *more]
    settings = ["--set", "latency.beam=2"]
    result = CliRunner().invoke(app, [*command, *settings])
    assert isinstance(result.exception, CheckError), result.exception
    assert not place.exists()
    return str(result.exception)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train_target", b"a b\n" * 79, ["train_source has 80", "train_target has 79"]),
        ("valid_source", b"", ["valid_source is empty"]),
        ("test_source", b"a b\n" * 7 + b"caf\xe9\n" + b"a b\n" * 72, ["test_source line 8", "0xe9", "UTF-8"]),
        ("test_source", gzip.compress(b"a b\n" * 80, mtime=0)[:-20], ["test_source is damaged gzip"]),
        ("train_source", None, ["train_source does not exist", "--data"]),
    ],
)
def test_a_text_that_cannot_be_used(recipe: Path, name: str, content: bytes | None, words: list[str]):
    (recipe.parent / name).unlink()
    if content is not None:
        (recipe.parent / name).write_bytes(content)
    told = refused(recipe)
    for word in words:
        assert word in told


def test_a_vocabulary_that_the_text_cannot_fill_or_that_cannot_hold_it(recipe: Path):
    assert "got corpus.vocab_size 500: set it to 17 or less" in refused(recipe, "--set", "corpus.vocab_size=500")
    assert "got corpus.vocab_size 10: set it to 11 or more" in refused(recipe, "--set", "corpus.vocab_size=10")


def test_a_file_that_is_too_large_to_be_read_first_is_read_at_its_beginning(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("hat_ray.pipeline.preflight.text._WHOLE_BYTES", 1)
    (recipe.parent / "train_source").write_bytes(b"caf\xe9\n" * 80)
    assert "train_source line 1" in refused(recipe)


def test_a_check_without_the_text_says_that_it_was_not_looked_at(recipe: Path):
    result = CliRunner().invoke(app, ["recipe", "check", "multi30k.en-de", "--json"])
    [text] = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "text files"]
    assert (text["verdict"], "--data" in text["text"]) == ("ok", True)
    given = CliRunner().invoke(app, ["recipe", "check", "multi30k.en-de", "--json", "--data", str(recipe.parent)])
    assert given.exit_code == 2
    assert not json.loads(given.stdout)["fit"]


@pytest.mark.parametrize("byte_fallback", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_bounds_of_a_vocabulary_hold_sentencepieces_own(tmp_path: Path, byte_fallback: bool, seed: int):
    draw = random.Random(seed)
    letters = "abcdeäöü"[: 3 + seed]
    lines = [" ".join("".join(draw.choices(letters, k=draw.randint(1, 20))) for _ in range(4)) for _ in range(5)]
    for name in ("a", "b"):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    files = FilesConfig(
        **{f"{split}_{side}": name for split in ("train", "valid", "test") for side, name in SIDES},
        folder=str(tmp_path),
    )
    config = CorpusConfig(source="files", files=files, byte_fallback=byte_fallback, leaks="keep")
    least, most = vocabulary_bounds(files, config)
    how = VocabularyConfig(symbols=config.symbols)
    assert len(learn_vocabulary(lines * 2, least, byte_fallback=byte_fallback, how=how)) == least
    for impossible in (least - 1, most + 1):
        with pytest.raises(CorpusError):
            learn_vocabulary(lines * 2, impossible, byte_fallback=byte_fallback, how=how)
    leaky = config.model_copy(update={"leaks": "remove"})  # which characters are left is not known
    assert vocabulary_bounds(files, leaky) == (5 + len(SYMBOLS) + 256 * byte_fallback, most)


SIDES = (("source", "a"), ("target", "b"))


def checked(recipe: Path, *more: str) -> list[str]:
    """Return the lines of `recipe check` on the text files, each with its verdict."""
    command = ["recipe", "check", str(recipe), "--data", str(recipe.parent), "--json", *more]
    checks = json.loads(CliRunner().invoke(app, command).stdout)["checks"]
    return [f"{check['verdict']}: {check['text']}" for check in checks if check["name"] == "text files"]


def test_a_check_names_text_that_is_shifted_and_text_that_is_its_own_test_set(recipe: Path):
    [same] = checked(recipe, "--set", "corpus.leaks=remove")
    assert same.startswith("failure: no training pair is left of 80: 80 have a source of validation or test")
    lengths = random.Random(2).choices(range(2, 30), k=600)
    lines = [f"a {number} " + "b " * length for number, length in enumerate(lengths)]
    (recipe.parent / "train_source").write_text("\n".join(lines) + "\n")
    (recipe.parent / "train_target").write_text("\n".join(lines).upper() + "\n")
    assert not [line for line in checked(recipe) if line.startswith("warning: training text")]
    (recipe.parent / "train_target").write_text("\n".join([*lines[:200], "x", *lines[200:-1]]).upper() + "\n")
    [shifted] = [line for line in checked(recipe) if line.startswith("warning: training text")]
    assert "pairs 201 to 600 of train_source and train_target: the target stands 1 line behind its source" in shifted
