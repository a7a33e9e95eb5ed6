"""Preparation and training at growing corpus sizes: pairs a second, and memory of every process.

    python tests/benchmarks/bench_corpus.py --pairs 500000 5000000 --cluster

Makes a corpus by repeating the toy language's sentences with noise, prepares it with `hat-ray corpus` and trains a few
updates with `hat-ray train super`, each as a process of its own, and watches the memory of that process and of all its
descendants: private memory (RssAnon: what a process owns) and mapped files (RssFile: shared with the page cache).
Ray's workers run at niceness 15: on a machine that is not alone set RAY_worker_niceness=0.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hat_ray.corpus.config import ToyConfig
from hat_ray.corpus.toy.generate import generate

RECIPE = """
name: scale
corpus:
  source: files
  vocab_size: 4000
  vocab_sample_lines: 100000
  deduplicate: true
  max_ratio: 3
  files:
    folder: {folder}
    train_source: train.source
    train_target: train.target
    valid_source: valid.source
    valid_target: valid.target
    test_source: test.source
    test_target: test.target
space: {{preset: toy}}
supernet: {{updates: {updates}, max_tokens: 2048, accumulate: 2, workers: {workers}, warmup_updates: 2}}
"""


KINDS = ("driver", "Read_Chunks", "MapBatches", "train_in_a_group")
"""Processes that are told of: the command's own, and those of Ray that hold text or tokens."""


@dataclass
class Memory:
    """Peaks over a command's life, in MB, by kind of process."""

    private: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    mapped: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def make_text(place: Path, pairs: int) -> None:
    """Write a corpus of `pairs` training pairs, line by line: toy sentences, some words swapped or numbered."""
    place.mkdir(parents=True, exist_ok=True)
    texts = generate(ToyConfig(train_pairs=5_000, valid_pairs=200, test_pairs=200))
    for split, text in texts.items():
        for side, lines in (("source", text.source), ("target", text.target)):
            stream = random.Random(f"{split} {side}")
            with open(place / f"{split}.{side}", "w", encoding="utf-8") as file:
                for row in range(pairs if split == "train" else len(lines)):
                    file.write(noisy(lines[row % len(lines)], row // len(lines), stream) + "\n")


def noisy(line: str, round_: int, stream: random.Random) -> str:
    words = line.split()
    if round_ and stream.random() < 0.9:
        one, other = stream.randrange(len(words)), stream.randrange(len(words))
        words[one], words[other] = words[other], words[one]
        words.insert(stream.randrange(len(words) + 1), str(stream.randrange(10_000)))
    return " ".join(words)


def watched(command: list[str], seconds_between: float = 0.5) -> tuple[float, Memory]:
    """Run a command; return its seconds and its processes' peaks of memory."""
    memory, started = Memory(), time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        over = threading.Event()

        def look() -> None:
            while not over.wait(seconds_between):
                for pid in descendants(process.pid):
                    note(pid, process.pid, memory)

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            status = process.wait(timeout=7_200)
        finally:
            process.kill()
            over.set()
            watcher.join()
        if status:
            errors.seek(0)
            raise RuntimeError(f"{command} ended with {status}: {errors.read().decode()[-2000:]}")
    return time.monotonic() - started, memory


def descendants(root: int) -> Iterator[int]:
    """Yield a process and all that stem from it."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children[parent].append(int(path.parent.name))
    queue = [root]
    while queue:
        pid = queue.pop()
        yield pid
        queue += children[pid]


def note(pid: int, driver: int, memory: Memory) -> None:
    """Raise the peaks of a process's kind."""
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except (OSError, ValueError):
        return
    kind = "driver" if pid == driver else re.split(r"[.(]", name.removeprefix("ray::"))[0]
    if kind in KINDS and "RssAnon" in status:
        for peaks, key in ((memory.private, "RssAnon"), (memory.mapped, "RssFile")):
            peaks[kind] = max(peaks[kind], int(status[key].split()[0]) / 1024)


def measure(place: Path, pairs: int, *, cluster: bool, updates: int, workers: int) -> dict[str, object]:
    """Make, prepare and train; return seconds, and peaks of memory by kind of process."""
    started = time.monotonic()
    make_text(place / "text", pairs)
    made = time.monotonic() - started
    recipe = place / "scale.yaml"
    recipe.write_text(RECIPE.format(folder=place / "text", updates=updates, workers=workers if cluster else 1))
    base = [sys.executable, "-m", "hat_ray.cli"]
    end = [str(recipe), "--run", str(place / "run"), *([] if cluster else ["--local"])]
    prepare_s, preparing = watched([*base, "corpus", *end])
    summary = json.loads((place / "run" / "corpus" / "summary.json").read_text())
    train_s, training = watched([*base, "train", "super", *end])
    return {
        "pairs": pairs,
        "kept": summary["train"]["pairs"],
        "tokens": summary["train"]["source"]["tokens"] + summary["train"]["target"]["tokens"],
        "shard_mb": sum(shard["bytes"] for shard in summary["shards"]) / 1e6,
        "made_s": made,
        "prepare_s": prepare_s,
        "prepare_private_mb": dict(preparing.private),
        "train_s": train_s,
        "train_private_mb": dict(training.private),
        "train_mapped_mb": dict(training.mapped),
    }


def show(figures: dict[str, object]) -> None:
    pairs, prepare_s = figures["pairs"], figures["prepare_s"]
    assert isinstance(pairs, int)
    assert isinstance(prepare_s, float)
    print(
        f"{pairs:>9,} pairs ({figures['kept']:,} kept, {figures['tokens']:,} tokens, {figures['shard_mb']:.0f} MB of "
        f"shards): prepared in {prepare_s:.0f} s, {pairs / prepare_s:,.0f} pairs/s; trained {figures['train_s']:.0f} s"
    )
    for name in ("prepare_private_mb", "train_private_mb", "train_mapped_mb"):
        peaks = figures[name]
        assert isinstance(peaks, dict)
        print(f"          {name:18} " + "  ".join(f"{kind} {mb:.0f}" for kind, mb in sorted(peaks.items())))


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_memory_at_two_sizes(tmp_path: Path) -> None:
    for pairs in (50_000, 500_000):
        show(measure(tmp_path / str(pairs), pairs, cluster=False, updates=10, workers=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[500_000, 5_000_000])
    parser.add_argument("--cluster", action="store_true", help="Ray Data and Ray Train instead of one process")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for pairs in arguments.pairs:
        with tempfile.TemporaryDirectory(prefix="bench-corpus-") as place:
            figures = measure(
                Path(place), pairs, cluster=arguments.cluster, updates=arguments.updates, workers=arguments.workers
            )
        if arguments.json:
            print(json.dumps(figures), flush=True)
        else:
            show(figures)


if __name__ == "__main__":
    main()
