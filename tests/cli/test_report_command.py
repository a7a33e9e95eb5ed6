"""`hat-ray report RUN [RUN ...]`: one page for several runs, and every mistake told in a line."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app, main
from hat_ray.core.codec import write
from hat_ray.report.data import CorpusFacts, Provenance, ReportData, SpaceFacts
from hat_ray.storage.folder import Folder


def made_up(name: str, seed: int) -> ReportData:
    return ReportData(
        name=name,
        corpus=CorpusFacts("en", "de", 10, 2, 2, 100),
        space=SpaceFacts("toy", "0123", "8"),
        devices=(),
        chosen=(),
        provenance=Provenance(f"name: {name}\nseed: {seed}\n", seed, "2026-03-01T09:30:00Z"),
    )


def write_run(place: Path, seed: int = 1, *, report: bool = True) -> Path:
    folder = Folder.at(place)
    folder.write_json("run.json", {"recipe": "toy", "format": 1})
    if report:
        write(folder.child("report"), "report.json", made_up("toy", seed))
    return place


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs with reports, in the folder that the command works in."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/one", 1)
    write_run(tmp_path / "runs/two", 2)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that tells the mistake."""
    with pytest.raises(SystemExit) as left:
        main(["report", *arguments])
    assert left.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    [line] = [line for line in told.err.splitlines() if line.strip()]
    return line


def test_several_runs_become_one_page_here_or_where_asked(here: Path) -> None:
    result = CliRunner().invoke(app, ["report", "runs/one", "runs/two"])
    assert result.exit_code == 0, result.output
    assert "2 runs compared" in (here / "comparison.html").read_text()
    result = CliRunner().invoke(app, ["report", "one", f"file://{here}/runs/two", "--out", "new/side.html", "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["page"] == str(here / "new/side.html")
    assert [run["name"] for run in value["runs"]] == ["one", "two"]
    assert value["recipe_differences"] == {"seed": {"A": "1", "B": "2"}}
    assert (here / "new/side.html").exists()


def test_folders_that_cannot_be_compared_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "plain").mkdir()
    write_run(here / "young", report=False)
    shutil.copytree(here / "runs/one", here / "damaged")
    (here / "damaged/report/report.json").write_text('{"format": 99}')
    (here / "link").symlink_to(here / "runs/one")
    assert "plain is no run folder: it holds no run.json" in refused(capsys, "runs/one", "plain")
    assert "nowhere does not exist; name folders" in refused(capsys, "runs/one", "nowhere")
    assert "young has no report yet: do `hat-ray report young` first" in refused(capsys, "runs/one", "young")
    told = refused(capsys, "runs/one", "damaged")
    assert "damaged/report/report.json has format 99, this hat-ray reads format 6: write the report again" in told
    for again in ("runs/one", "./runs/../runs/one/", "link"):
        assert "is the same run as runs/one: name it once" in refused(capsys, "runs/one", again)
    assert not (here / "comparison.html").exists()


def test_targets_that_cannot_be_written_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("")
    assert "--out must name a file, got the folder runs" in refused(capsys, "one", "two", "--out", "runs")
    assert "--out must name a file, got the folder new/" in refused(capsys, "one", "two", "--out", "new/")
    told = refused(capsys, "one", "two", "--out", "file/page.html")
    assert "cannot write file/page.html" in told
    assert "name another file with --out" in told
    assert (here / "file").read_text() == ""


def test_options_of_one_run_and_of_several_are_not_mixed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out names the page that compares several runs" in refused(capsys, "runs/one", "--out", "x.html")
    for option in (["--run", "runs/x"], ["--set", "seed=2"], ["--data", "."], ["--address", "auto"], ["--local"]):
        assert f"{option[0]} changes how one run's report is made" in refused(capsys, "one", "two", *option)


def test_help_teaches_both_uses() -> None:
    text = CliRunner().invoke(app, ["report", "--help"]).output
    assert "several run" in text
    for example in ("hat-ray report runs/toy\n", "--out mine-against-toy.html", "--json"):
        assert example in text
