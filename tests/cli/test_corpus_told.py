"""What the corpus stage says of the text that it leaves out, and of test lines within the training text."""

import json
from pathlib import Path

from tests.command import hat_ray


def test_silent_drops_and_leaks_are_not_silent(tmp_path: Path):
    short, long = [f"a dog number {n} runs" for n in range(30)], ["the dog " * 20 + str(n) for n in range(70)]
    files = {"train": short + long, "valid": short[:3], "test": [*short[5:9], "a new line"]}
    for split, lines in files.items():
        for side in ("source", "target"):
            (tmp_path / f"{split}_{side}").write_text("\n".join(lines) + "\n")
    names = {f"{split}_{side}": f"{split}_{side}" for split in files for side in ("source", "target")}
    corpus = {"source": "files", "files": names, "vocab_size": 40, "byte_fallback": False, "max_length": 30}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"name": "mix", "corpus": corpus}))
    done = hat_ray("corpus", "recipe.yaml", "--local", "--data", tmp_path, "--run", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert "WARNING training text: 30 of 100 pairs kept (70 longer than corpus.max_length)" in told
    [leak] = [line for line in told if "test source" in line]
    assert leak.startswith("WARNING 4 test sources stand in the training text as well: scores are too high")
