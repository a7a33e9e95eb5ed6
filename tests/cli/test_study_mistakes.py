"""Users' mistakes in the studies of a SuperTransformer and in distillation: one clear line, exit code 2."""

from pathlib import Path

import pytest

from hat_ray.cli import main

SMALL = ("--set", "corpus.toy.train_pairs=300", "--set", "corpus.vocab_size=300")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["policies", "toy", "--policies", "front"], "must read sharing/policy, such as front/uniform"),
        (["policies", "toy", "--policies", "front/unifrom"], "unknown policy 'unifrom'; did you mean uniform?"),
        (["policies", "toy", "--policies", "middle/uniform,middle/uniform"], "each policy may stand once"),
        (["policies", "toy", "--policies", "front/uniform+distill"], "+distill needs the sandwich policy"),
        (["ranking", "toy", "--set", "ranking.bins=7"], "architectures must be at least twice bins"),
        (["ranking", "toy", "--set", "ranking.architecture=7"], "did you mean architectures?"),
        (["ranking", "toy", "--local"], "stage ranking reads from corpus"),
        (["policies", "toy", "--local", *SMALL, "--set", "ranking.device=pi"], "needs the run's predictors"),
    ],
)
def test_one_line_and_exit_code_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["train", *arguments])
    assert left.value.code == 2
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if line.startswith("hat-ray: error: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in told.err
    assert told.out == ""


def test_distillation_needs_a_run_with_retrained_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["distil", "toy", "--out", "distilled"])
    assert left.value.code == 2
    assert "runs/toy has no retrained models yet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
