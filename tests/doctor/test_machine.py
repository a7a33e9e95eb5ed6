"""`hat-ray doctor` on this machine: everything is really tried."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hat_ray.doctor.gpus import examine_gpus
from hat_ray.doctor.machine import examine_machine, examine_runtimes
from hat_ray.doctor.result import is_fit
from hat_ray.evaluate.tokenizers import NEEDS
from hat_ray.pipeline.preflight.packages import installed
from hat_ray.runtime.choice import fastest_runtime
from hat_ray.runtime.protocol import RuntimeSettings
from tests.command import hat_ray


def test_every_runtime_translates_and_the_machine_is_timed(tmp_path: Path) -> None:
    findings = {finding.name: finding for finding in examine_machine(tmp_path / "runs", watch_s=0.3)}
    assert is_fit(list(findings.values()))
    for runtime in ("eager fp32", "onnx fp32", "onnx int8"):
        assert findings[f"runtime {runtime}"].seen.startswith("runs, ")
    assert "torch " in findings["versions"].seen
    fastest = fastest_runtime(RuntimeSettings()).runtime
    assert f" ms with {fastest} repeats within " in findings["timing"].seen
    assert findings["disk for runs"].seen.endswith(f"at {tmp_path}")
    assert not list(tmp_path.iterdir()), "nothing is written"
    tokenizers = findings["tokenizers of scores"]
    assert tokenizers.seen.startswith("13a, intl, zh")
    for name, (packages, how) in NEEDS.items():
        lacks = not set(packages) <= installed()
        assert (f"pip install '{how}'" in tokenizers.remedy) is lacks
        assert not (lacks and name in tokenizers.seen)
    for finding in findings.values():
        assert finding.verdict == "good" or finding.remedy, finding


def test_a_runtime_of_the_cpu_is_not_judged_by_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu = {finding.name: finding for finding in examine_runtimes()}
    old_gpu = SimpleNamespace(name="Old GPU", total_memory=2**33, major=6, minor=1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: old_gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    findings = {finding.name: finding for finding in examine_runtimes()}
    assert "Old GPU has less" in findings.pop("runtime eager bf16").remedy
    assert findings, "the other runtimes were tried"
    for name, finding in findings.items():
        assert finding.verdict == without_gpu[name].verdict, finding
        assert "Old GPU" not in finding.remedy


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a PyTorch that sees no GPU")
def test_a_gpu_that_pytorch_cannot_use_is_told_with_the_build_that_is_there(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nothing = examine_gpus(tmp_path)
    assert (nothing.verdict, nothing.seen) == ("good", "none: the CPU trains and times")
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (tmp_path / name).touch()
    found = examine_gpus(tmp_path)
    assert found.verdict == "advice"
    assert found.seen.startswith("2 by the system's device files, none that torch sees")
    assert f"torch {torch.__version__} was built for " in found.seen
    assert "CUDA build" in found.remedy


def test_a_place_that_cannot_be_written_to_is_missing_and_ends_with_2(everybodys: Path) -> None:
    (everybodys / "cache").mkdir()
    (everybodys / "cache").chmod(0o777)
    (everybodys / "closed").mkdir(mode=0o555)
    environment = {**os.environ, "HAT_RAY_CACHE": str(everybodys / "cache")}
    command = ["doctor", "--json", "--runs", everybodys / "closed" / "runs"]
    done = hat_ray(*command, cwd=everybodys, env=environment, without_rights=True)
    assert done.returncode == 2, done.stderr
    told = json.loads(done.stdout)
    assert not told["fit"]
    [missing] = [finding for finding in told["findings"] if finding["verdict"] == "missing"]
    assert missing["name"] == "disk for runs"
    assert "--run" in missing["remedy"]
