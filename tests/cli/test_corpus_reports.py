"""What the corpus stage says of the text that it leaves out, and of test lines within the training text."""

import json
import random
from pathlib import Path

from tests.command import hat_ray


def test_silent_drops_and_leaks_are_not_silent(tmp_path: Path):
    short, long = [f"a dog number {n} runs" for n in range(30)], ["the dog " * 20 + str(n) for n in range(70)]
    files = {"train": short + long, "valid": short[:3], "test": [*short[5:9], "a new line"]}
    for split, lines in files.items():
        for side in ("source", "target"):
            text = lines if side == "source" else [f"{line} now" for line in lines]
            (tmp_path / f"{split}_{side}").write_text("\n".join(text) + "\n")
    names = {f"{split}_{side}": f"{split}_{side}" for split in files for side in ("source", "target")}
    corpus = {"source": "files", "files": names, "vocab_size": 40, "byte_fallback": False, "max_length": 30}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"name": "mix", "corpus": corpus}))
    how = ("corpus", "recipe.yaml", "--local", "--data", tmp_path, "--run")
    done = hat_ray(*how, "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = "23 of 100 pairs kept (70 longer than corpus.max_length, 7 with a source of validation or test)"
    [warning] = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert warning == f"WARNING less than half of the training text is kept: {kept}"
    [closing] = [line for line in done.stderr.splitlines() if "done in" in line]
    assert f": {kept}, 3 validation, 5 test; " in closing
    warned = hat_ray(*how, "warned", "--set", "corpus.leaks=warn", cwd=tmp_path).stderr
    assert "WARNING 4 test and 3 validation sources stand in the training text: scores are too high" in warned
    assert "30 of 100 pairs kept (70 longer than corpus.max_length)" in warned
    kept_all = hat_ray(*how, "kept", "--set", "corpus.leaks=keep", cwd=tmp_path).stderr
    assert "30 of 100 pairs kept" in kept_all
    assert "sources stand" not in kept_all


def test_a_shift_of_one_side_is_told_with_its_place_and_kept_in_the_summary(tmp_path: Path):
    lengths = random.Random(4).choices(range(1, 13), k=900)
    source = [" ".join(["dog"] * length) + f" {number}" for number, length in enumerate(lengths)]
    target = [" ".join(["hund"] * length) + f" {number}" for number, length in enumerate(lengths)]
    files = {"train": (source, [*target[:500], *target[501:], "x"]), "valid": (["a"], ["b"]), "test": (["c"], ["d"])}
    for split, sides in files.items():
        for side, lines in zip(("source", "target"), sides, strict=True):
            (tmp_path / f"{split}_{side}").write_text("\n".join(lines) + "\n")
    names = {f"{split}_{side}": f"{split}_{side}" for split in files for side in ("source", "target")}
    corpus = {"source": "files", "files": names, "vocab_size": 40, "byte_fallback": False}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"name": "mix", "corpus": corpus}))
    done = hat_ray("corpus", "recipe.yaml", "--local", "--data", tmp_path, "--run", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [warning] = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    place = "training text, pairs 501 to 900 of train_source and train_target"
    assert warning.startswith(f"WARNING {place}: the target stands 1 line before its source (lengths correlate by ")
    [found] = json.loads((tmp_path / "run" / "corpus" / "summary.json").read_text())["findings"]
    assert (found["kind"], found["lines"], found["first"], found["last"]) == ("shifted", -1, 501, 900)
