"""The image of `jobs/Dockerfile`: what its files make, and, where a builder is at hand, the image itself.

The whole build needs root, `buildah` and `debootstrap`. Its base is then a fresh Debian with Debian's own Python, not
the image that the Dockerfile names; `HAT_RAY_IMAGE_BASE` names another one. `HAT_RAY_IMAGE_BUILD` has more words for
the builder, such as `--build-arg` and `--volume`.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "jobs" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def stages() -> list[list[tuple[str, str]]]:
    """Return the (instruction, rest) pairs of each stage; the first is what stands before any."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[list[tuple[str, str]]] = [[]]
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest.strip()))
    return found


def ignored(path: Path) -> bool:
    """Return whether `.dockerignore` keeps a file away from the builder: the last of its lines that fits decides."""
    out, parts = False, path.relative_to(ROOT).parts
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.lstrip("!")
        fits = pattern[3:] in parts if pattern.startswith("**/") else fnmatch(parts[0], pattern)
        if line and not line.startswith("#") and fits:
            out = not line.startswith("!")
    return out


def test_what_the_builder_is_given_makes_a_whole_wheel(tmp_path: Path) -> None:
    """Each COPY is done as the builder does it, and the wheel is built from that alone."""
    work = tmp_path / "build"
    work.mkdir()
    for name, rest in stages()[1]:
        *sources, target = rest.split() if name == "COPY" else ("",)
        for source in sources:
            files = [path for path in (ROOT / source).rglob("*") if path.is_file()] or [ROOT / source]
            for path in (path for path in files if not ignored(path)):
                place = work / target / (path.relative_to(ROOT / source) if path != ROOT / source else path.name)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
    assert {path.name for path in work.iterdir()} > {"constraints.txt", "hat_ray", "pyproject.toml"}
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [sys.executable, "-c", build, str(tmp_path)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr.decode()
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = [path for path in (ROOT / "hat_ray").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {str(path.relative_to(ROOT)) for path in files if path.suffix != ".md"} <= packed


def test_the_image_is_pinned_has_no_rights_and_starts_a_command_that_exists() -> None:
    before, build, last = stages()
    assert re.match(r"BASE=docker\.io/library/python:3\.\d+\.\d+-slim-\w+$", dict(before)["ARG"])
    assert [rest.partition(" ")[0] for name, rest in (*build, *last) if name == "FROM"] == ["${BASE}"] * 2
    installs = [rest for name, rest in build if name == "RUN" and "pip install" in rest]
    assert [" -c constraints.txt " in rest for rest in installs] == [True] * 2
    run = [rest for name, rest in last if name == "RUN"]
    assert not [rest for rest in run if re.search(r"pip|apt", rest)], "what builds stays in the first stage"
    final = dict(last)
    assert re.match(r"[1-9]\d*:[1-9]\d*$", final["USER"]), "Kubernetes knows a user without rights by its number"
    [command] = json.loads(final["ENTRYPOINT"])
    assert command in PROJECT["scripts"]
    extras = dict(rest.partition("=")[::2] for name, rest in build if name == "ARG")["EXTRAS"]
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def buildah(*words: str) -> str:
    done = subprocess.run(["buildah", *words], capture_output=True, text=True, timeout=1700, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def debian(folder: Path) -> str:
    """Make an image of a fresh Debian with its own Python; return its name."""
    names = "python3,python3-venv,python-is-python3,ca-certificates"
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={names}", "bookworm", str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=900,
    )
    made = buildah("from", "scratch").strip()
    buildah("add", made, str(folder), "/")
    buildah("commit", "--rm", made, "localhost/hat-ray-base")
    return "localhost/hat-ray-base"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("buildah") or not shutil.which("debootstrap"),
    reason="needs root, buildah and debootstrap",
)
def test_the_image_is_built_and_runs_a_recipe_without_rights(tmp_path: Path) -> None:
    base = os.environ.get("HAT_RAY_IMAGE_BASE") or debian(tmp_path / "debian")
    more = shlex.split(os.environ.get("HAT_RAY_IMAGE_BUILD", ""))
    words = ["--isolation", "chroot", "-f", str(DOCKERFILE), "--build-arg", f"BASE={base}", *more]
    buildah("build", *words, "-t", "localhost/hat-ray-tested", str(ROOT))
    made = buildah("from", "localhost/hat-ray-tested").strip()
    mounts = ("--volume", f"{ROOT / 'tests' / 'pipeline'}:/mnt:ro")

    def run(command: str, *shell: str) -> str:
        return buildah("run", "--isolation", "chroot", *mounts, made, "--", *(shell or ("bash", "-c")), command).strip()

    try:
        assert run("id -u; id -g").split() == dict(stages()[2])["USER"].split(":")
        assert run("for one in gcc cc make pip git; do command -v $one; done; true") == "", "nothing that builds"
        assert run("hat-ray --version") == run("hat-ray --version", "bash", "-lc") == f"hat-ray {PROJECT['version']}"
        run("python -c 'import ctranslate2, onnxruntime, ray.serve'")
        run("python -c 'import xgboost as x; x.train({}, x.DMatrix([[1.0]], [1.0]))'")
        run("hat-ray run /mnt/tiny.yaml --local --run ~/run && test -e ~/run/report/report.html")
    finally:
        buildah("rm", made)
