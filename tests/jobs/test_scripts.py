"""The scripts of jobs/: what they refuse, and what they run; and a dashboard of metrics that exist."""

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from hat_ray.cli import app
from hat_ray.cluster.metrics import METRICS
from tests.waiting import wait_for

JOBS = Path(__file__).parents[2] / "jobs"


def test_the_dashboard_shows_every_metric_with_its_unit_and_tags_and_no_other() -> None:
    panels = json.loads((JOBS / "grafana.json").read_text())["panels"]
    shown = set()
    for panel in panels:
        for target in panel["targets"]:
            names = re.findall(r"(\w+)\{", target["expr"])
            assert len(names) == len(re.findall(r'\w+\{run=~"\$run"\}', target["expr"])) > 0, (
                "each is of the chosen runs"
            )
            assert set(names) == set(re.findall(r"\bray_\w+", target["expr"])), "each is chosen by its run"
            metrics = [name.removeprefix("ray_") for name in names]
            for metric in metrics:
                assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(METRICS[metric].tags), metric
            if target["expr"] == f'ray_{metrics[0]}{{run=~"$run"}}':
                assert panel["fieldConfig"]["defaults"]["unit"] == METRICS[metrics[0]].unit, metrics[0]
            shown |= set(metrics)
    assert shown == set(METRICS)
    assert all("run" in metric.tags for metric in METRICS.values())
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [{(p["x"] + i, p["y"]) for i in range(p["w"])} for p in (panel["gridPos"] for panel in panels)]
    assert sum(map(len, places)) == len(set().union(*places)), "two panels lie on each other"


@pytest.mark.parametrize("script", sorted(path.name for path in JOBS.glob("*.py")))
def test_the_readme_names_every_script(script: str) -> None:
    assert f"`{script}" in (JOBS / "README.md").read_text()


COMMANDS = re.findall(
    r"`([a-z ]+)`", (JOBS / "README.md").read_text().partition("| `stage.py COMMAND` |")[2].split("\n")[0]
)


def job(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=JOBS.parent, capture_output=True, text=True, timeout=240, check=False
    )


def test_every_command_of_the_readme_is_one_that_a_job_can_run() -> None:
    root = typer.main.get_command(app)
    assert len(COMMANDS) == 12
    for command in COMMANDS:
        found: Any = root
        for word in command.split():
            found = found.commands[word]
        if hasattr(found, "first_command"):  # that of a group needs no name
            found = found.commands[found.first_command]
        options = {option for parameter in found.params for option in parameter.opts}
        assert "--run" in options and {"recipe", "runs", "place"} & options, command  # noqa: PT018


def test_a_stage_as_a_job_reaches_the_command_and_its_options(tmp_path: Path) -> None:
    done = job("jobs/stage.py", "latency", "measure", "--recipe", "toyy", "--run", str(tmp_path), "--local")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no recipe is called 'toyy'" in done.stderr
    done = job("jobs/stage.py", "search", "--recipe", "toy", "--run", str(tmp_path), "--sett", "a=1")
    assert done.returncode == 2
    assert "--sett" in done.stderr


def test_a_job_without_a_command_a_recipe_or_a_lasting_folder_is_refused() -> None:
    for words in (["stage.py", "--recipe", "toy", "--run", "/r"], ["stage.py", "search", "--recipe", "toy"]):
        done = job(f"jobs/{words[0]}", *words[1:])
        assert done.returncode == 1
        assert "usage: jobs/stage.py COMMAND --recipe NAME --run" in done.stderr
    done = job("jobs/run_pipeline.py", "--recipe", "toy", "--run", "runs/toy")
    assert done.returncode == 1
    assert "--run must be an absolute path or a URI" in done.stderr


def test_a_stopped_job_ends_with_one_line_that_says_how_to_resume_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["jobs/stage.py", "corpus", "--recipe", "toy", "--run", str(run), "--local"]
    words += ["--set", "corpus.toy.train_pairs=1000000"]  # nothing that ends before it is stopped
    process = subprocess.Popen([sys.executable, *words], cwd=JOBS.parent, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: (run / "corpus").exists() or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait(timeout=240)
    assert process.returncode == 143, said
    assert "Traceback" not in said
    command = shlex.join(["python", *words])
    assert said.splitlines()[-1] == f"hat-ray: stopped by SIGTERM: submit `{command}` again to resume"
