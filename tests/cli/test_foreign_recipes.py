"""Recipes of strangers through the real command line: one line, exit 2, and neither time nor memory is spent on them.

Each command has a limit of processor seconds and of address space, so that a file that runs away ends the command; its
peak memory is what the system counted.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hat_ray.errors import RecipeError, SpaceError
from hat_ray.recipe import load_recipe
from hat_ray.space.hat_yaml import load_architecture

MOST_MEMORY_MB = 200
LAUNCHER = """
import os, resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""
"""A small process between: the system counts a parent's memory as its child's."""


def measured(*arguments: str | Path, cwd: Path) -> tuple[int, list[str], float]:
    """Run hat-ray; return its exit code, the lines of its stderr and its peak memory in MB."""
    command = [sys.executable, "-I", "-S", "-c", LAUNCHER, sys.executable, "-m", "hat_ray.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, stdin=subprocess.DEVNULL, timeout=240, check=True)
    code, peak_kb = done.stdout.split()
    return int(code), done.stderr.decode().splitlines(), int(peak_kb) / 1024


def refused(cwd: Path, *arguments: str | Path) -> str:
    code, lines, memory_mb = measured(*arguments, cwd=cwd)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("hat-ray: error: ")
    assert len(lines[0]) < 500
    assert memory_mb < MOST_MEMORY_MB
    return lines[0]


def laughs(use: str) -> str:
    return "name: x\na0: &a0 {k: v}\n" + "".join(
        f"a{n}: &a{n} {use % ','.join([f'*a{n - 1}'] * 10)}\n" for n in range(1, 12)
    )


FILES = {
    "aliases": (laughs("[%s]").encode(), ["recipe.yaml, line 6: a4.", "8000 values at most"]),
    "merges": (laughs("{<<: [%s]}").encode(), ["recipe.yaml, line 6: a4.<<", "8000 values at most"]),
    "deep": (b"name: x\nsearch: " + b"[" * 10_000, ["recipe.yaml, line 2: search.0", "nested 50 deep"]),
    "digits": (b"name: x\nseed: " + b"7" * 5_000, ["recipe.yaml, line 2: seed: a number has 40 digits at most"]),
    "date": (b"name: x\nseed: 2021-13-45\n", ["recipe.yaml, line 2: seed: ", "valid integer", "2021-13-45"]),
    "bool": (b"name: x\ncorpus:\n  nfc: !!bool perhaps\n", ["recipe.yaml, line 3: corpus.nfc: 'perhaps' is no bool"]),
    "code": (b"name: !!python/name:os.system\n", ["recipe.yaml, line 1: name: the tag !!python/name:os.system"]),
    "twice": (b"name: x\nseed: 1\nseed: 2\n", ["line 3: the key seed stands on line 2 and again here"]),
    "list key": (b"? [a, b]\n: 1\nname: x\n", ["recipe.yaml, line 1: a key must be text, got a list"]),
    "number key": (b"name: x\nsearch:\n  limits_ms:\n    3090: [5]\n", ["line 4: search.limits_ms: a key", "3090"]),
    "itself": (b"name: x\ncorpus: &a {toy: *a}\n", ["recipe.yaml, line 2: corpus.toy: the alias *a stands inside"]),
    "latin-1": ("name: x\ndescription: café\n".encode("latin-1"), ["recipe.yaml, line 2", "0xe9 is not UTF-8"]),
    "NUL": (b"name: x\nseed: \x001\n", ["recipe.yaml, line 2: a NUL character"]),
    "UTF-16 without a mark": ("name: x\n".encode("utf-16-le"), ["recipe.yaml, line 1: a NUL character"]),
    "control": (b"name: x\nseed: \x1b[31m1\n", ["recipe.yaml is not YAML: line 2: the character U+001B"]),
    "long value": (b"name: x\nseed: " + b"long " * 40_000, ["recipe.yaml, line 2: seed: ", "..."]),
    "long key": (b"name: x\n? " + b"k" * 100_000 + b"\n: 1\n", ["line 2: unknown key kkkk", "..."]),
    "large": (b"# much\n" * 10_000_000, ["recipe.yaml has more than 262144 bytes"]),
    "escapes": (b'name: x\n"\\e[31mred": 1\n', [r"line 2: unknown key \x1b[31mred"]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_foreign_recipe_is_refused_with_line_and_key(name: str, tmp_path: Path):
    content, words = FILES[name]
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as refusal:
        load_recipe(str(tmp_path / "recipe.yaml"))
    for word in words:
        assert word in str(refusal.value)
    assert len(str(refusal.value)) < 500
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["aliases", "merges", "deep", "large"])
def test_a_foreign_recipe_takes_neither_time_nor_memory(name: str, tmp_path: Path):
    content, words = FILES[name]
    (tmp_path / "recipe.yaml").write_bytes(content)
    line = refused(tmp_path, "recipe", "check", "recipe.yaml")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("laughs.yaml", ["line 5: a3.", "8000 values at most"]),
        ("laughs_merge.yaml", ["line 5: a4.<<", "8000 values at most"]),
        ("deep.yaml", ["line 2: corpus.0", "nested 50 deep at most"]),
        ("badint.yaml", ["line 2: seed: a number has 40 digits at most, got 5000"]),
        ("ts.yaml", ["line 2: seed: input should be a valid integer", "2020-99-99"]),
        ("bool.yaml", ["line 2: seed: 'maybe' is no bool"]),
        ("self.yaml", ["line 2: corpus.toy: the alias *a stands inside what it names"]),
        ("dup.yaml", ["line 3: the key seed stands on line 2 and again here"]),
        ("listkey.yaml", ["line 1: a key must be text, got a list"]),
    ],
)
def test_the_cases_that_users_brought(case: str, words: list[str], shared: Path, tmp_path: Path):
    file = shared / "cases" / "recipes" / case
    line = refused(tmp_path, *(["run"] if case.startswith("laughs") else ["recipe", "check"]), file)
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_plain_file_is_no_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    torch.save({"x": torch.zeros(3)}, tmp_path / "model.pt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    for given in ("/dev/zero", "fifo"):
        assert f"{given} is a " in refused(tmp_path, "recipe", "check", given)
    for given, words in {
        "/dev/null": "/dev/null is a device",
        "socket": "socket is a socket",
        "folder": "folder is a folder that holds no run",
        "loop": "loop is a link that leads back to itself",
        "model.pt": "model.pt is a PyTorch checkpoint, no text",
        "none/x.yaml": "none/x.yaml does not exist",
        f"./{'x' * 300}": "has a name that is too long",
        "x" * 300: "no recipe is called 'xxx",
    }.items():
        with pytest.raises(RecipeError, match=words):
            load_recipe(given)


def test_what_a_stranger_sets_is_bounded_too(tmp_path: Path):
    for change, words in {
        "seed=" + "9" * 5_000: "a number has 40 digits at most, got 5000",
        "search.limits_ms=" + "[" * 10_000: "nested 50 deep at most",
        "corpus" + ".x" * 10_000 + "=1": "a key has 50 parts at most",
        "seed=&a [*a]": r"the alias \*a stands inside",
        "corpus.nfc=!!bool maybe": "'maybe' is no bool",
        "corpus={nfc: true, nfc: false}": "the key nfc stands on line 1 and again",
    }.items():
        with pytest.raises(RecipeError, match=words) as refusal:
            load_recipe("toy", [change])
        assert len(str(refusal.value)) < 300
    assert "nested 50 deep" in refused(tmp_path, "recipe", "check", "toy", "--set", "search.limits_ms=" + "[" * 10_000)


def test_a_search_space_and_an_architecture_of_strangers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("bomb.yml").write_text(laughs("[%s]"))
    Path("x.json").write_text("[" * 100_000)
    Path("y.json").write_text('{"encoder": ' + "7" * 5_000 + "}")
    os.mkfifo("fifo")
    for file, words in {
        "bomb.yml": r"bomb.yml, line 6: a4\.",
        "/dev/zero": "/dev/zero is a device",
        "fifo": "fifo is a FIFO",
    }.items():
        with pytest.raises(SpaceError, match=words):
            load_architecture(file)
        with pytest.raises(SpaceError, match=words):
            load_recipe("toy", [f"space.file={file}"]).space.build()
    for file in ("x.json", "y.json"):
        with pytest.raises(SpaceError, match="not an architecture"):
            load_architecture(file)
    assert "bomb.yml, line 6: a4." in refused(tmp_path, "cost", "bomb.yml")


def test_a_run_folders_own_recipe_is_read_like_any_other(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"recipe": "x", "format": 1}')
    place = tmp_path / "run" / "recipe.yaml"
    for content, words in ((laughs("[%s]").encode(), "line 6: a4."), (b"PK\x03\x04" + b"archive/data.pkl", "PyTorch")):
        place.write_bytes(content)
        assert words in refused(tmp_path, "recipe", "check", "run")
    place.unlink()
    os.mkfifo(place)
    assert "run/recipe.yaml is no plain file" in refused(tmp_path, "recipe", "check", "run")
