"""Whatever happens to a file of a run, each command that reads it says so in one line: no traceback, no hang."""

import io
import random
import resource
import shutil
import sys
from pathlib import Path

import pytest

from hat_ray.cli import main
from hat_ray.recipe import Recipe
from hat_ray.space.hat_yaml import write_architecture
from tests.damage import damaged

GROWTH_MB = 600
UNREAD = (".html", ".csv", ".tfevents", "lease", "checkpoints")


@pytest.fixture(scope="module")
def whole(made: tuple[Recipe, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of its own, and an architecture beside it."""
    recipe, place = made
    home = tmp_path_factory.mktemp("whole")
    shutil.copytree(place, home / "r")
    (home / "one.yml").write_text(write_architecture(recipe.space.build().smallest()))
    return home


def commands(file: Path) -> list[list[str]]:  # noqa: PLR0911
    """Return the commands that read a file of a run, which stands in `r`."""
    again = ["report", "r", "--local", "--set", "report.translations=1"]
    translate = ["translate", "r"]
    latency = ["predict", "latency", "r", "one.yml"]
    search = ["search", "r", "--local"]
    match file.parts:
        case ("recipe.yaml",):  # with others settings `run` would do hours of work, rightly
            return [latency, translate, ["predict", "score", "r"]]
        case ("report", "report.json"):
            return [["report", "r", "whole", "--out", "out.html"]]
        case ("search", "rounds", *_) | ("search", "rounds.json" | "began.json" | "search.json" | "begun.json"):
            return [search]
        case ("search", *_):
            return [["search", "show", "r"], ["search", "show", "r", "--json"], again, search]
        case ("supernet", "supernet.json" | "supernet.safetensors"):
            return [search]
        case ("predictor", *_):
            return [latency, ["predict", "score", "r"], again]
        case ("corpus", *_) | ("retrain", *_):
            return [translate, again, ["run", "r", "--local"]]
        case _:
            return [again, ["run", "r", "--local"]]


def fuzz(whole: Path, home: Path, seed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """Damage one file and do one command that reads it."""
    rng = random.Random(seed)
    shutil.copytree(whole, home)
    (home / "whole").symlink_to(whole / "r")
    monkeypatch.chdir(home)
    every = [path for path in sorted(Path("r").rglob("*")) if path.is_file()]
    files = [path for path in every if not any(part in str(path) for part in UNREAD)]
    names = [path for path in files if path.suffix in (".json", ".yaml")]
    file = rng.choice(names if rng.random() < 0.7 else files)
    arguments = rng.choice(commands(file.relative_to("r")))
    content = damaged(file.read_bytes(), rng)
    if arguments[0] == "search" and arguments[1] == "r" and file.name != "stage.json":
        Path("r/search/stage.json").unlink()  # so that the search is taken up
    file.write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a b c\n")))
    what = f"seed {seed}: {file} = {content[:300]!r}: hat-ray {' '.join(arguments)}"
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code
    except BaseException as error:
        raise AssertionError(what) from error
    out = capsys.readouterr()
    assert code in (0, None, 2), f"{what}\n{out.err}"
    assert "Traceback" not in out.err, f"{what}\n{out.err}"
    errors = [line for line in out.err.splitlines() if line.startswith("hat-ray: error:")]
    assert len(errors) == (1 if code else 0), f"{what}\n{out.err}"
    shutil.rmtree(home)


@pytest.mark.parametrize("group", range(4))
def test_a_damaged_file_of_a_run_is_told_in_one_line(group, whole, tmp_path, monkeypatch, capsys):
    for seed in range(10 * group, 10 * group + 10):
        fuzz(whole, tmp_path / str(seed), seed, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("group", range(10))
def test_hundreds_of_damaged_files_are_told_in_one_line(group, whole, tmp_path, monkeypatch, capsys):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(1000 + 50 * group, 1000 + 50 * group + 50):
        fuzz(whole, tmp_path / str(seed), seed, monkeypatch, capsys)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_MB * 1024
