"""The policy study on Ray: killed and run again it goes on, and finds what one process without Ray finds."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hat_ray.core.codec import from_json
from hat_ray.studies.results import PolicyStudy
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TINY = str(Path(__file__).parents[1] / "pipeline" / "tiny.yaml")
SMALL = (
    *("ranking.architectures=4", "ranking.bins=2", "ranking.resamples=100", "retrain.updates=30"),
    *("supernet.updates=40", "corpus.toy.train_pairs=300", "corpus.vocab_size=300"),
)


def command(place: Path, *more: str) -> list[str]:
    settings = [part for change in SMALL for part in ("--set", change)]
    policies = ["--policies", "front/uniform,middle/sandwich", "--seeds", "2"]
    return [
        sys.executable,
        "-m",
        "hat_ray.cli",
        "train",
        "policies",
        TINY,
        *policies,
        "--run",
        str(place),
        *settings,
        *more,
    ]


def losses(study: PolicyStudy) -> list[object]:
    return [
        [(net.policy, net.seed, net.updates, net.inherited_loss_bits) for net in study.supernets],
        [(one.architecture, one.bin, one.scratch_loss_bits) for one in study.tried],
        study.policies,
        study.baselines,
    ]


def test_a_killed_study_goes_on_and_equals_one_without_ray(tmp_path: Path):
    place = tmp_path / "ray"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(
        command(place), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: first.poll() is not None or len(list(place.glob("trained/*/*/train.json"))) >= 3)
        assert first.poll() is None
        done = list(place.glob("trained/*/*/train.json"))
    finally:
        os.killpg(first.pid, signal.SIGKILL)  # the driver, and the Ray that it started
        first.wait(timeout=240)
    before = {path: path.stat().st_mtime_ns for path in done}
    second = subprocess.run(
        command(place, "--json"), env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert second.returncode == 0, second.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}
    on_ray = from_json(PolicyStudy, json.loads(second.stdout)["policies"], "the study")
    local = subprocess.run(
        command(tmp_path / "local", "--local", "--json"),
        env=environment, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert local.returncode == 0, local.stderr
    assert losses(on_ray) == losses(from_json(PolicyStudy, json.loads(local.stdout)["policies"], "the study"))
