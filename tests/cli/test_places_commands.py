"""Places on the command line: a run is never deleted, a secret is never told or kept, a full disk is one line."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import hat_ray

TINY = str(Path(__file__).resolve().parents[1] / "pipeline" / "tiny.yaml")
SECRET = "hUsH7hUsH"
SECRET_URIS = [
    f"s3://AKIAME:{SECRET}/x+y@team/q?region=us-east-1",
    f"s3://team/q?region=us-east-1&session_token={SECRET}",
    f"abfs://box:{SECRET}@account.dfs.core.windows.net/q",
]


SMALL_FILES = """
import resource
from hat_ray.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
main()
"""


def mistake(result: "subprocess.CompletedProcess[str]", code: int = 2) -> str:
    assert result.returncode == code, result.stderr
    told = result.stderr.splitlines()
    assert told[-1].startswith("hat-ray: error: ")
    assert "Traceback" not in result.stderr
    return told[-1]


def test_a_run_whose_place_has_a_query_is_not_deleted(tmp_path: Path):
    """Seen: `?a=b` was passed over, each stage's folder was the run folder, and beginning a stage emptied it."""
    run = tmp_path / "run"
    run.mkdir()
    for name, content in {"run.json": '{"recipe": "tiny", "format": 1}', "recipe.yaml": "name: tiny\n"}.items():
        (run / name).write_text(content)
    result = hat_ray("corpus", TINY, "--run", f"file://{run}?a=b", "--local", cwd=tmp_path)
    assert "a file: URI has no query" in mistake(result)
    assert sorted(path.name for path in run.iterdir()) == ["recipe.yaml", "run.json"]


def test_a_run_folder_may_be_named_by_a_file_uri(tmp_path: Path):
    result = hat_ray("corpus", TINY, "--run", f"file://{tmp_path}/a%20run%3Fx", "--local", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "a run?x" / "corpus" / "stage.json").is_file()


@pytest.mark.parametrize("uri", SECRET_URIS)
def test_a_secret_in_a_place_is_never_told_and_never_kept(tmp_path: Path, uri: str):
    (tmp_path / "mine.yaml").write_text(f"name: mine\nlatency:\n  table: {uri}\n")
    commands = [
        ["corpus", TINY, "--run", uri, "--local"],
        ["corpus", TINY, "--run", "run", "--local", "--set", f"latency.table={uri}"],
        ["corpus", TINY, "--run", "run", "--local", "--set", f'search.warm_start=["{uri}"]'],
        ["recipe", "check", "mine.yaml"],
        ["latency", "show", uri],
        ["report", uri, "run"],
        ["predict", "score", uri],
    ]
    for command in commands:
        result = hat_ray(*command, cwd=tmp_path)
        told = mistake(result)
        assert "user, key, token or signature" in told, (command, told)
        for text in (result.stdout, result.stderr):
            assert SECRET not in text
            assert "AKIAME" not in text
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "mine.yaml"]
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]


def test_a_disk_that_takes_no_more_is_one_line_and_the_run_goes_on_later(tmp_path: Path):
    """A file of a bounded size stands in for a disk that is full: the system refuses the write in the same way."""

    command = ["corpus", TINY, "--run", "run", "--local"]
    full = subprocess.run(
        [sys.executable, "-c", SMALL_FILES, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    told = mistake(full, code=1)
    assert "cannot be written" in told
    assert "MB free" in told
    assert not (tmp_path / "run" / "corpus" / "stage.json").exists()
    after = hat_ray(*command, cwd=tmp_path)
    assert after.returncode == 0, after.stderr
    assert (tmp_path / "run" / "corpus" / "stage.json").is_file()


def test_a_folder_that_may_not_be_written_is_one_line(everybodys: Path):
    for name, mode in (("closed", 0o555), ("open", 0o777)):
        (everybodys / name).mkdir()
        (everybodys / name).chmod(mode)
    (everybodys / "tiny.yaml").write_bytes(Path(TINY).read_bytes())

    def corpus(run: str) -> "subprocess.CompletedProcess[str]":
        return hat_ray("corpus", "tiny.yaml", "--run", run, "--local", cwd=everybodys, without_rights=True)

    told = mistake(corpus("closed/run"))
    assert "cannot use the run folder" in told
    assert "is refused (Permission denied)" in told
    assert not list((everybodys / "closed").iterdir())
    assert corpus("open/run").returncode == 0
