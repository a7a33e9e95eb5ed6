"""The workflow on GitHub runs the lanes of `.ci/run`, with few rights and an end."""

import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]
LANES = re.findall(r"^ {4}([\w-]+)\) .*\bmake ", SCRIPT, re.MULTILINE)


def jobs_of(kind: str) -> list[tuple[str, str]]:
    """Return the (lane, Python version) pairs of the jobs that an event of a kind starts."""
    started = [job for job in JOBS.values() if kind != "pull_request" or kind not in job.get("if", "")]
    return [(row["lane"], row["python"]) for job in started for row in job["strategy"]["matrix"]["include"]]


def test_the_workflow_runs_every_lane() -> None:
    assert {lane for lane, _ in jobs_of("push")} == set(LANES)
    assert {"lint", "test", "isa-avx2", "minimal", "arm"} <= {lane for lane, _ in jobs_of("pull_request")}


def test_the_default_tests_run_on_the_oldest_and_the_newest_python() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.findall(r"Python :: (3\.\d+)", project)
    assert {python for lane, python in jobs_of("pull_request") if lane == "test"} == {versions[0], versions[-1]}


def test_without_a_lane_the_script_runs_every_test_once() -> None:
    default = re.search(r"\|\| set -- (.+)", SCRIPT)
    assert default is not None
    assert default[1].split() == ["lint", "test", "isa-avx2", "cluster", "chaos"]
    for one, other in [("test-default", ""), ("test-cluster", "-m slow -k cluster"), ("test-chaos", "not cluster")]:
        assert other in MAKEFILE.partition(f"\n{one}:")[2].partition("\n\n")[0]


def test_a_lane_of_another_processor_is_refused_here() -> None:
    if platform.machine() == "aarch64":
        pytest.skip("this machine can run the lane arm")
    result = subprocess.run([ROOT / ".ci" / "run", "arm"], capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 2
    assert result.stderr.strip() == f"lane arm needs an ARM machine (aarch64), this is {platform.machine()}"
    [arm] = [row for job in JOBS.values() for row in job["strategy"]["matrix"]["include"] if row["lane"] == "arm"]
    assert arm["runner"].endswith("-arm")


def test_other_environments_have_what_pyproject_allows() -> None:
    made = {kind: requirements(kind) for kind in ("minimal", "lowest")}
    assert not [one for one in made["minimal"] if re.match("ray|ctranslate2", one)]
    assert [one for one in made["minimal"] if one.startswith("torch>=")]
    pinned = [one for one in made["lowest"] if "==" in one]
    text = (ROOT / "pyproject.toml").read_text()
    for name in ("torch", "pyarrow", "ctranslate2", "sacremoses", "subword-nmt", "tokenizers"):
        bound = re.search(rf'"{name}>=([\d.]+)', text)
        assert bound is not None
        assert f"{name}=={bound[1]}" in pinned
    assert all(re.fullmatch(r"[\w-]+(\[[\w,]+\])?==[\d.]+", one) for one in pinned)
    assert len(pinned) > len(made["minimal"]) - 4  # all but the test tools


def requirements(kind: str) -> list[str]:
    command = [sys.executable, ROOT / ".ci" / "requirements.py", kind]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=True).stdout.split()


def test_an_unknown_lane_is_refused() -> None:
    result = subprocess.run([ROOT / ".ci" / "run", "polish"], capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 2
    assert all(lane in result.stderr for lane in LANES)


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_a_job_ends_and_calls_the_script_alone(job: dict[str, Any]) -> None:
    assert 0 < job["timeout-minutes"] <= 120
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run ${{ matrix.lane }}"]
    for step in job["steps"]:
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/none@v1")), step


def test_the_workflow_may_read_only() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in JOBS.values())


def test_a_commit_checks_what_the_lane_lint_checks() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    lint = MAKEFILE.partition("\nlint:")[2].partition("\n\n")[0]
    for hook in hooks:
        assert hook["language"] == "system"
        command, _, options = hook["entry"].partition(" --")
        assert command.replace(".venv/bin/", "$(BIN)/") in lint.replace(" --check", "")
        assert options == ("force-exclude" if "ruff" in command else ""), "ruff would change files that it excludes"
