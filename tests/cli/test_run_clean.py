"""`hat-ray run clean`, and the line at the end of a run that leads to it."""

import json
from pathlib import Path

import pytest

from hat_ray.cli import main


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """Do a command; return what it prints and what it says."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert (end.value.code or 0) == code
    output = capsys.readouterr()
    return output.out, output.err


def test_what_other_settings_made_is_told_listed_and_freed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = str(tmp_path / "r")
    corpus = ("corpus", "toy", "--run", run, "--local", "--set", "corpus.toy.train_pairs=300")
    settings = ("--set", "corpus.toy.valid_pairs=20", "--set", "corpus.toy.test_pairs=20", "--set")
    _, first = told(capsys, *corpus, *settings, "corpus.vocab_size=300")
    assert "earlier settings" not in first
    _, second = told(capsys, *corpus, *settings, "corpus.vocab_size=310")
    size = sum(path.stat().st_size for path in (tmp_path / "r" / "kept").rglob("*") if path.is_file())
    assert f"results of earlier settings: 1, {size / 1000:.1f} kB; `hat-ray run clean {run}`" in second
    listed, said = told(capsys, "run", "clean", run)
    assert listed.split()[0] == "corpus"
    assert listed.split()[-1] == str(next((tmp_path / "r" / "kept" / "corpus").iterdir()))
    assert "delete them with --yes" in said
    assert list((tmp_path / "r" / "kept").iterdir())
    found = json.loads(told(capsys, "run", "clean", run, "--yes", "--json")[0])
    assert (found["bytes"], found["deleted"], len(found["results"])) == (size, True, 1)
    assert not (tmp_path / "r" / "kept").exists()
    assert "0 results of earlier settings" in told(capsys, "run", "clean", run)[1]
    assert (tmp_path / "r" / "corpus" / "stage.json").exists()
    assert "is not a run folder" in told(capsys, "run", "clean", str(tmp_path), code=2)[1]
