"""What a user can do wrong with `hat-ray serve`: one clear line, exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from hat_ray.cli import main
from hat_ray.cli.commands.serve import open_to
from hat_ray.serve.config import ServeConfig
from tests.exported import Exported


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--runtime", "onnx"], "is an exported model, which brings its own: leave --runtime out"),
        (["--detach"], "--detach needs a cluster that stays"),
        (["--route", "translate"], "--route must begin with /"),
        (["--replicas", "0"], "replicas"),
        (["--port", "70000"], "port"),
    ],
)
def test_options_that_cannot_be(
    exported: Exported,
    options: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert words in refused(capsys, str(exported.folder), *options)


def test_what_is_open_to_whom_is_one_line() -> None:
    here, wide = ServeConfig(), ServeConfig(host="0.0.0.0")
    assert open_to(here, None).startswith("open to every program of this machine, without a password; Ray's own ports")
    assert "whoever reaches 0.0.0.0" in open_to(wide, None)
    assert "for this command's token" in open_to(here, None)
    assert "the cluster's at 10.0.0.1:6379" in open_to(here, "10.0.0.1:6379")


def test_a_place_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "hat-ray: error:" in refused(capsys, str(tmp_path))


def test_the_job_script_wants_a_place_that_all_nodes_reach() -> None:
    for arguments, words in ([], "usage:"), (["exported"], "must be an absolute path or a URI"):
        result = subprocess.run(
            [sys.executable, "jobs/serve.py", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert result.returncode == 1
        assert words in result.stderr
