"""The page "From HAT": each of its commands, in order, on small files that HAT and fairseq would write."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hat_ray.space.hat_yaml import write_architecture, write_space
from tests.command import hat_ray
from tests.corpus.fairseq.data_bin_files import encoded, write_dictionary, write_mmap
from tests.model import hat_files
from tests.test_readme import arguments, shell_lines

SYMBOLS = [f"w{number}" for number in range(hat_files.VOCAB - 4)]
LINES = [" ".join(f"w{(start * 7 + step) % 16}" for step in range(3 + start % 4)) for start in range(40)]
TRAINING_LINES = [" ".join(f"w{(start * 5 + 2 * step) % 16}" for step in range(3 + start % 4)) for start in range(40)]
SMALL = {
    "latency.samples": 10,
    "latency.budget_s": 0.1,
    "latency.patience_s": 0.1,
    "latency.calibration_s": 0.1,
    "search.evaluations": 12,
    "search.refine_rounds": 0,
    "retrain.updates": 20,
    "retrain.baselines": ["largest"],
    "evaluate.beam": 2,
}
TRAINING = {
    **{"criterion": "label_smoothed_cross_entropy", "label_smoothing": 0.1, "lr_scheduler": "inverse_sqrt"},
    **{"lr": [0.01], "max_update": 20, "warmup_updates": 5, "max_tokens": 200, "update_freq": [1], "seed": 1},
    **{"source_lang": "en", "target_lang": "de", "max_len_a": 1.0, "max_len_b": 5, "clip_norm": 0.0},
}


def write_files(folder: Path) -> None:
    """Write a checkpoint, a space, an architecture, a data-bin and the text of its test split."""
    torch.save(hat_files.content(**TRAINING), folder / "super.pt")
    training = "max-update: 20\nlr-scheduler: inverse_sqrt\nlr: 0.01\nmax-tokens: 200\ndata: data-bin\n"
    (folder / "space.yml").write_text(write_space(hat_files.SPACE) + training)
    (folder / "one.yml").write_text(write_architecture(hat_files.SPACE.smallest()))
    (folder / "data-bin").mkdir()
    for language in ("en", "de"):
        write_dictionary(folder / "data-bin" / f"dict.{language}.txt", SYMBOLS)
        for split, lines in (("train", TRAINING_LINES), ("valid", LINES), ("test", LINES)):
            write_mmap(folder / "data-bin" / f"{split}.en-de.{language}", encoded(lines, SYMBOLS))
        (folder / f"test.{language}").write_text("".join(f"{line}\n" for line in LINES))


@pytest.mark.slow
def test_every_command_of_the_page_works_in_order(tmp_path: Path):
    write_files(tmp_path)
    done = []
    for line in shell_lines("hat_ray/recipes/FROM_HAT.md"):
        words, stdin, stdout = arguments(line)
        if words[0] != "hat-ray":
            assert words[0] == "python"
            assert stdin is not None
            with open(tmp_path / stdin, "rb") as lines:
                command = [sys.executable, *words[1:]]
                alone = subprocess.run(command, stdin=lines, cwd=tmp_path, capture_output=True, timeout=240, check=True)
            assert alone.stdout == (tmp_path / "translated.de").read_bytes()
            continue
        more = [item for key, value in SMALL.items() for item in ("--set", f"{key}={value}")]
        more = more if words[1:3] == ["import", "super"] else ["--local"] if words[1] == "run" else []
        content = (tmp_path / stdin).read_bytes() if stdin else b""
        result = hat_ray(*words[1:], *more, cwd=tmp_path, stdin=content)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
        if stdout is not None:
            (tmp_path / stdout).write_text(result.stdout)
        done.append(words[1])
    assert done.count("import") == 3
    for name in ("translated.de", "inherited.de"):
        assert len((tmp_path / name).read_text().splitlines()) == len(LINES)
    assert (tmp_path / "exported" / "manifest.json").exists()
    assert (tmp_path / "mine.yaml").exists()
