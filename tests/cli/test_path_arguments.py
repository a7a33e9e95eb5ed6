"""Every argument that is a path, given everything that a path can wrongly be: one line that names it, exit code 2."""

import os
import socket
from pathlib import Path

import click
import pytest
import torch
import typer

from hat_ray.cli import app
from hat_ray.space.hat_yaml import write_architecture
from hat_ray.space.presets import TOY
from tests.command import hat_ray

WRONG = ("missing", "plain", "folder", "fifo", "socket", "/dev/null", "model.pt", "loop", "plain/below")
"""As an input: what is not there, and what is there but is something else; `folder` is an empty one."""
NO_FOLDER = tuple(kind for kind in WRONG if kind not in ("missing", "folder"))
"""As a folder to make: what cannot become one."""
TEXTS = tuple(kind for kind in WRONG if kind != "plain")
"""As a text."""
COMMANDS = {
    **{
        f"{' '.join(command)} RECIPE": ([*command, "@", "--local"], WRONG)
        for command in (
            *(["run"], ["corpus"], ["train", "super"], ["train", "ranking"], ["train", "policies"]),
            *(["latency", "measure"], ["latency", "sweep"], ["latency", "onboard"], ["predict", "fit"]),
            *(["search"], ["retrain"], ["evaluate"], ["report"]),
        )
    },
    "recipe show": (["recipe", "show", "@"], WRONG),
    "recipe check": (["recipe", "check", "@"], WRONG),
    "run --run": (["run", "toy", "--local", "--run", "@"], NO_FOLDER),
    "latency measure --run": (["latency", "measure", "toy", "--local", "--run", "@"], NO_FOLDER),
    "corpus --data": (["corpus", "multi30k.en-de", "--local", "--run", "made", "--data", "@"], WRONG),
    "train sub FILE": (["train", "sub", "@", "toy", "--out", "made"], WRONG),
    "train sub RECIPE": (["train", "sub", "good.yml", "@", "--out", "made"], WRONG),
    "train sub --out": (["train", "sub", "good.yml", "toy", "--out", "@"], NO_FOLDER),
    "train sub --run": (["train", "sub", "good.yml", "toy", "--out", "made", "--run", "@"], WRONG),
    "distil RUN": (["distil", "@", "--out", "made"], WRONG),
    "distil --out": (["distil", "folder", "--out", "@"], NO_FOLDER),
    "cost": (["cost", "@"], WRONG),
    "latency show": (["latency", "show", "@"], WRONG),
    "latency validate": (["latency", "validate", "@"], WRONG),
    "latency compact": (["latency", "compact", "@"], tuple(kind for kind in WRONG if kind != "folder")),
    "latency kit RECIPE": (["latency", "kit", "@", "--out", "made"], WRONG),
    "latency export TABLE": (["latency", "export", "@", "made"], WRONG),
    "latency export FOLDER": (["latency", "export", "folder", "@"], NO_FOLDER),
    "latency import TABLE": (["latency", "import", "@", "folder"], NO_FOLDER),
    "latency import SOURCE": (["latency", "import", "made", "@"], WRONG),
    "predict score": (["predict", "score", "@"], WRONG),
    "predict latency RUN": (["predict", "latency", "@", "good.yml"], WRONG),
    "search show": (["search", "show", "@"], WRONG),
    "report RUN RUN": (["report", "@", "folder"], WRONG),
    "translate": (["translate", "@"], WRONG),
    "translate --score": (["translate", "folder", "--score", "@"], tuple(k for k in WRONG if k != "plain")),
    "export RUN": (["export", "@", "--out", "made"], WRONG),
    "certify EXPORT": (["certify", "make", "@", "--source", "plain"], WRONG),
    "certify --source": (["certify", "make", "folder", "--source", "@"], tuple(k for k in WRONG if k != "plain")),
    "certify verify": (["certify", "verify", "@"], WRONG),
    "convert RUN": (["convert", "@", "--out", "made"], WRONG),
    "convert --out": (["convert", "folder", "--out", "@"], NO_FOLDER),
    "export --out": (["export", "folder", "--out", "@"], NO_FOLDER),
    "evaluate --source": (["evaluate", "folder", "--source", "@"], tuple(k for k in WRONG if k != "plain")),
    "evaluate compare": (["evaluate", "compare", "@", "plain", "--reference", "plain"], TEXTS),
    "evaluate compare --reference": (["evaluate", "compare", "plain", "plain", "--reference", "@"], TEXTS),
    "corpus inspect": (["corpus", "inspect", "@"], WRONG),
    "export --source": (
        ["export", "folder", "--out", "made", "--source", "@"],
        tuple(k for k in WRONG if k != "plain"),
    ),
    "import recipe": (["import", "recipe", "@"], WRONG),
    "import super": (["import", "super", "@", "--data-bin", "folder"], tuple(k for k in WRONG if k != "model.pt")),
    "import model": (["import", "model", "@", "--out", "made"], tuple(k for k in WRONG if k != "model.pt")),
    "space around": (["space", "around", "@"], tuple(k for k in WRONG if k != "model.pt")),
    "serve": (["serve", "@"], WRONG),
    "run clean": (["run", "clean", "@"], WRONG),
}
CAUSES = {
    "fifo": ("a FIFO", "no run", "not a run", "no exported model"),
    "model.pt": (
        *("PyTorch checkpoint", "file where a folder should be", "file stands where"),
        *("no run", "not a run", "no exported model", "is no JSON"),
    ),
}
"""One of these words names the true cause, but for paths below, whose folder is told."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "good.yml").write_text(write_architecture(TOY.largest()))
    (tmp_path / "plain").write_text("hello\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
    torch.save({"x": torch.zeros(3)}, tmp_path / "model.pt")
    return tmp_path


def check(name: str, kind: str, place: Path) -> None:
    arguments, _ = COMMANDS[name]
    before = {path.name for path in place.iterdir()}
    done = hat_ray(*[kind if part == "@" else part for part in arguments], cwd=place, timeout=240)
    told = f"{name} {kind}: {done.returncode} {done.stderr}"
    assert done.returncode == 2, told
    [line] = done.stderr.splitlines()
    assert line.startswith("hat-ray: error: "), told
    assert Path(kind).name in line or "plain" in line, told
    if kind in CAUSES and "--data" not in name:
        assert any(cause in line for cause in CAUSES[kind]), told
    assert "Errno" not in line, told
    assert done.stdout == "", told
    assert {path.name for path in place.iterdir()} == before, told


SAME_CODE = [name for name in COMMANDS if name.endswith(" RECIPE")][3:]
"""Commands of one stage: all read their recipe by the same function."""


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in SAME_CODE])
def test_a_path_of_another_kind_is_named_in_one_line(name: str, place: Path):
    for kind in {"fifo", "model.pt"} & {*COMMANDS[name][1]}:
        check(name, kind, place)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_path_of_every_kind_is_named_in_one_line(name: str, place: Path):
    for kind in COMMANDS[name][1]:
        check(name, kind, place)


def test_every_command_is_in_the_table():
    """A command that is added without a row here fails, unless it takes no path."""
    without_paths = {"doctor", "recipe list", "recipe schema"}
    listed = {" ".join(part for part in arguments if part.isalpha()) for arguments, _ in COMMANDS.values()}
    defaults = {"run recipe": "run", "search run": "search", "corpus prepare": "corpus", "evaluate score": "evaluate"}
    names = [defaults.get(name, name) for name in commands(typer.main.get_command(app))]
    for command in names:
        assert command in without_paths or any(row.startswith(command) for row in listed), command


def commands(group: click.Command, path: str = "") -> list[str]:
    """Return the names of all commands that do something."""
    found = [] if getattr(group, "callback", None) is None or not path else [path]
    inner = getattr(group, "commands", {})
    return found * (not inner) + [
        name for key, command in inner.items() for name in commands(command, f"{path} {key}".strip())
    ]
