"""Every user's mistake: one clear line, exit code 2, nothing half-written."""

import gzip
import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from hat_ray.space.hat_yaml import write_architecture
from hat_ray.space.presets import SPACE0, TOY
from tests.command import hat_ray


def refused(result: CompletedProcess[str], *words: str) -> None:
    """The last line of stderr tells the mistake; there is no traceback and nothing on stdout."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("hat-ray: error: ")]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def write_corpus(folder: Path, **changes: bytes | None) -> None:
    """Write six small parallel files; a change replaces a file's bytes, None leaves it out."""
    words = ["a b c d", "b c d e f", "c a", "d e a b"]
    for split in ("train", "valid", "test"):
        for side in ("source", "target"):
            name = f"{split}_{side}"
            content = changes.get(name, "\n".join(words * 20).encode() + b"\n")
            if content is not None:
                (folder / name).write_bytes(content)


def corpus_command(folder: Path, *more: str) -> list[str]:
    names = [f"{split}_{side}" for split in ("train", "valid", "test") for side in ("source", "target")]
    recipe = {
        "name": "mine",
        "corpus": {
            "source": "files",
            "vocab_size": 12,
            "protect": 0,
            "byte_fallback": False,
            "leaks": "keep",
            "files": {n: n for n in names},
        },
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return ["corpus", "recipe.yaml", "--local", "--data", str(folder), "--run", "run", *more]


def nothing_finished(folder: Path) -> bool:
    return not list(folder.glob("run/*/stage.json")) and not list(folder.glob("run/corpus/*.parquet"))


def test_a_good_corpus_is_accepted_so_that_the_refusals_below_mean_something(tmp_path: Path):
    write_corpus(tmp_path)
    result = hat_ray(*corpus_command(tmp_path, "--json"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["stages"]["corpus"]["train"]["pairs"] == 80


def test_parallel_files_of_different_length(tmp_path: Path):
    write_corpus(tmp_path, train_target=b"a b\n" * 79)
    refused(hat_ray(*corpus_command(tmp_path), cwd=tmp_path), "train_source", "80", "train_target", "79")
    assert nothing_finished(tmp_path)


def test_an_empty_file(tmp_path: Path):
    write_corpus(tmp_path, valid_source=b"")
    refused(hat_ray(*corpus_command(tmp_path), cwd=tmp_path), "valid_source", "empty")
    assert nothing_finished(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_bytes_that_are_not_utf8(tmp_path: Path, packed: bool):
    content = b"a b\n" * 6 + b"caf\xe9\n" + b"a b\n" * 73
    write_corpus(tmp_path, test_target=gzip.compress(content) if packed else content)
    refused(hat_ray(*corpus_command(tmp_path), cwd=tmp_path), "test_target", "7", "UTF-8")
    assert nothing_finished(tmp_path)


def test_a_missing_file(tmp_path: Path):
    write_corpus(tmp_path, train_source=None)
    refused(hat_ray(*corpus_command(tmp_path), cwd=tmp_path), "train_source")
    assert nothing_finished(tmp_path)


def test_a_vocabulary_larger_than_the_corpus_allows(tmp_path: Path):
    write_corpus(tmp_path)
    result = hat_ray(*corpus_command(tmp_path, "--set", "corpus.vocab_size=5000"), cwd=tmp_path)
    refused(result, "5000", "vocab_size")
    assert nothing_finished(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("serch.evaluations=5", ["unknown key serch", "did you mean search"]),
        ("search.evaluations=lots", ["search.evaluations", "'lots'"]),
        ("space.preset=tou", ["no search space is called 'tou'", "did you mean toy"]),
        ("space.encoder_heads=[3]", ["heads must divide", "3"]),
        ("latency.min_repetitions=400", ["max_repetitions must be at least min_repetitions 400"]),
    ],
)
def test_a_wrong_setting(tmp_path: Path, change: str, words: list[str]):
    refused(hat_ray("run", "toy", "--local", "--run", "run", "--set", change, cwd=tmp_path), *words)
    assert not (tmp_path / "run").exists()


def test_an_unknown_key_in_a_file_is_told_with_its_line(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("name: mine\ncorpus:\n  vocabsize: 5\n")
    refused(
        hat_ray("run", "mine.yaml", cwd=tmp_path),
        *["mine.yaml, line 3", "unknown key corpus.vocabsize", "did you mean vocab_size"],
    )


def test_a_run_folder_from_another_recipe(tmp_path: Path):
    write_corpus(tmp_path)
    assert hat_ray(*corpus_command(tmp_path), cwd=tmp_path).returncode == 0
    before = sorted(path.name for path in tmp_path.rglob("*"))
    refused(hat_ray("corpus", "toy", "--local", "--run", "run", cwd=tmp_path), "belongs to recipe 'mine'", "'toy'")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_run_folder_that_is_damaged_or_cannot_be_made(tmp_path: Path):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("broken")
    refused(hat_ray("run", "toy", "--local", "--run", "damaged", cwd=tmp_path), "run.json is damaged")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "run.json").write_text('{"recipe": "toy"}')
    refused(hat_ray("report", "bare", "--local", cwd=tmp_path), "bare lacks its recipe.yaml")
    (tmp_path / "file").write_text("x")
    refused(
        hat_ray("run", "toy", "--local", "--run", "file/run", cwd=tmp_path), "a file stands where a folder should be"
    )


def test_a_cluster_that_is_not_there(tmp_path: Path):
    settings = ["--set", "corpus.toy.train_pairs=300", "--set", "corpus.vocab_size=300"]
    assert hat_ray("corpus", "toy", "--local", "--run", "run", *settings, cwd=tmp_path).returncode == 0
    result = hat_ray("train", "super", "toy", "--run", "run", "--address", "127.0.0.1:1", *settings, cwd=tmp_path)
    refused(result, "no Ray cluster answers at 127.0.0.1:1")


def test_an_architecture_outside_the_space(tmp_path: Path):
    (tmp_path / "big.yml").write_text(write_architecture(SPACE0.largest()))
    result = hat_ray("train", "sub", "big.yml", "toy", "--out", "model", cwd=tmp_path)
    refused(result, "lies outside space toy", "qkv_dim must be one of [128], got 512")
    assert not (tmp_path / "model").exists()


def test_a_stage_before_its_turn(tmp_path: Path):
    refused(hat_ray("train", "super", "toy", "--local", cwd=tmp_path), "stage supernet reads from corpus")


def test_cost_of_a_file_that_is_no_architecture(tmp_path: Path):
    (tmp_path / "x.yml").write_text("encoder-embed-dim-subtransformer: 512\n")
    refused(hat_ray("cost", "x.yml", cwd=tmp_path), "x.yml lacks the key encoder-layer-num-subtransformer")
    refused(hat_ray("cost", "missing.yml", cwd=tmp_path), "architecture file missing.yml does not exist")


def test_cost_prints_whole_numbers(tmp_path: Path):
    (tmp_path / "a.yml").write_text(write_architecture(TOY.largest()))
    result = hat_ray("cost", "a.yml", "--length", "23", "--json", cwd=tmp_path)
    assert result.returncode == 0
    value = json.loads(result.stdout)
    assert type(value["params"]) is int
    assert type(value["flops"]) is int
    assert value["length"] == 23


def test_an_empty_latency_table(tmp_path: Path):
    refused(hat_ray("latency", "show", "nowhere", cwd=tmp_path), "nowhere does not exist")
    (tmp_path / "empty").mkdir()
    refused(hat_ray("latency", "show", "empty", cwd=tmp_path), "holds no latency rows")


def test_a_wrong_option_is_a_users_mistake_too(tmp_path: Path):
    result = hat_ray("run", "toy", "--nonsense", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


def test_a_pickle_is_never_executed_as_a_checkpoint(tmp_path: Path):
    from hat_ray.errors import CheckpointError
    from hat_ray.model.checkpoints.fairseq import load_hat_checkpoint

    torch.save({"x": Path("/tmp")}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError):
        load_hat_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("command", [["run", "toy"], ["doctor"], ["recipe", "check", "toy"], ["serve", "."]])
@pytest.mark.parametrize("address", ["", " "])
def test_an_empty_address_starts_no_cluster(tmp_path: Path, command: list[str], address: str):
    """`--address $HEAD` without a HEAD is a mistake, and no wish for a cluster here."""
    refused(hat_ray(*command, "--address", address, cwd=tmp_path), "--address must name a Ray cluster, got an empty")
    assert not list(tmp_path.iterdir())
