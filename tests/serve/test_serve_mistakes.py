"""What a user can do wrong with `hat-ray serve`: one clear line, exit code 2."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from hat_ray.cli import main
from hat_ray.cli.commands.serve import open_to
from hat_ray.errors import HatRayError, RunError
from hat_ray.serve.config import ServeArgs, ServeConfig
from hat_ray.serve.model_source import ModelSource
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
        (["--replicas", "3", "--max-replicas", "2"], "max_replicas must be at least replicas=3, got 2"),
        (["--glossary", "no-such-file.tsv"], "no-such-file.tsv"),
        (
            ["--glossary", __file__, "--no-protect"],
            "a glossary needs protect: leave glossary out, or let protect be true",
        ),
        (["--timeout-s", "inf"], "--timeout-s: Input should be a finite number"),
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
    assert "every client that reaches 0.0.0.0" in open_to(wide, None)
    assert "for this command's token" in open_to(here, None)
    assert "the cluster's at 10.0.0.1:6379" in open_to(here, "10.0.0.1:6379")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{}", 'place: Field required; such as {"place": "/shared/exported"}'),
        ('{"place": "/a", "replica": 2}', "replica: Extra inputs are not permitted"),
        ("[", "Invalid JSON"),
    ],
)
def test_arguments_of_an_application_that_cannot_be(
    arguments: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi", reason="needs ray[serve]")
    module = importlib.import_module("hat_ray.cluster.serve")
    monkeypatch.setenv(module.ARGS_VARIABLE, arguments)
    with pytest.raises(HatRayError) as refused:
        _ = module.application
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_arguments_as_a_command_line_writes_them_are_those_of_a_file() -> None:
    """`serve run` passes strings."""
    written = ServeArgs.model_validate({"place": "/a", "threads": "4", "wait_ms": "0.5", "allowed_hosts": "a,b"})
    assert written == ServeArgs(place="/a", threads=4, wait_ms=0.5, allowed_hosts=("a", "b"))
    assert (written.most_replicas, written.shutdown_s) == (1, 60.0)
    assert ServeArgs(place="/a", max_replicas=3, graceful_shutdown_timeout_s=5).shutdown_s == 5


def test_a_run_without_models_and_an_export_with_a_runtime_are_refused_where_a_replica_opens_them(
    exported: Exported, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="brings its own: leave runtime and short_list out"):
        ModelSource(str(exported.folder), runtime="onnx", short_list=0).open(1)
    with pytest.raises(RunError, match="holds no model: name a run folder, a model folder or an export"):
        ModelSource(str(tmp_path)).open(1)


def test_a_place_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "hat-ray: error:" in refused(capsys, str(tmp_path))


def test_the_job_script_wants_a_place_that_all_nodes_reach() -> None:
    for arguments, words in ([], "usage:"), (["exported"], "must be an absolute path or a URI"):
        result = subprocess.run(
            [sys.executable, "jobs/serve.py", *arguments],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert result.returncode == 1
        assert words in result.stderr
