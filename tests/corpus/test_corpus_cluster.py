"""Ray Data against one process: the same bytes."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.cluster.corpus import encode_on_cluster
from hat_ray.cluster.placement import Place
from hat_ray.core.placement import NodeRule
from hat_ray.corpus.cleaning.rules import PairRules
from hat_ray.corpus.config import CorpusConfig, FilesConfig, TextPart, ToyConfig
from hat_ray.corpus.encode import EncodingJob, LengthRules, encode_here
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.protection.practice import Practice
from hat_ray.corpus.protection.spans import SYMBOLS
from hat_ray.corpus.text.source import PairedFiles
from hat_ray.corpus.text.survey import survey
from hat_ray.corpus.toy.generate import generate
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.config import VocabularyConfig
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder

CHUNK = 150
ENCODERS = Place("score", NodeRule(labels={"pool": "text"}, resource="encoder"), given=True)


@pytest.fixture(scope="module", autouse=True)
def two_raylets() -> Iterator[None]:
    """The driver's own node has no CPU, as a head node in the cloud: encoding must go elsewhere, reading must not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else other work on this machine starves the workers
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            cluster.add_node(num_cpus=2, labels={"pool": "text"}, resources={"encoder": 1})
            cluster.wait_for_nodes(timeout=240)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            yield
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> PairedFiles:
    """Two pairs of files, of 14 chunks in all, some of them short, one of them without a pair that is kept."""
    place = tmp_path_factory.mktemp("text")
    text = generate(ToyConfig(train_pairs=1_700, valid_pairs=1, test_pairs=1))["train"]
    parts = []
    for number, rows in enumerate((slice(0, 920), slice(920, 1_700))):
        source, target = list(text.source[rows]), list(text.target[rows])
        if number:
            source[:CHUNK] = [""] * CHUNK
            target[CHUNK + 3] = ""
        for side, lines in (("source", source), ("target", target)):
            (place / f"{side}{number}").write_text("\n".join(lines))
        parts.append(TextPart(path=str(place / f"source{number}")))
    targets = tuple(TextPart(path=part.path.replace("source", "target")) for part in parts)
    return PairedFiles(tuple(parts), targets, chunk_pairs=CHUNK)


@pytest.mark.parametrize("first_chunk", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_the_cluster_encodes_what_one_process_encodes_in_the_same_order(files: PairedFiles, first_chunk: int) -> None:
    text = survey(files, PairRules(deduplicate=True)).text
    sides = [
        [line for chunk in text.all_chunks() for line in getattr(chunk.text, side)] for side in ("source", "target")
    ]
    how = VocabularyConfig(symbols=SYMBOLS)
    own = [
        learn_vocabulary(lines, size, byte_fallback=False, how=how)
        for lines, size in zip(sides, (300, 340), strict=True)
    ]
    job = EncodingJob(text, Vocabularies(*own), LengthRules(20, 1.3), Practice(0.5, 1))
    here, there = list(encode_here(job, first_chunk)), list(encode_on_cluster(job, first_chunk, ENCODERS))
    assert [chunk.number for chunk in there] == [chunk.number for chunk in here] == list(range(first_chunk, 13))
    for one, other in zip(here, there, strict=True):
        assert (one.dropped_long, one.dropped_ratio) == (other.dropped_long, other.dropped_ratio)
        for side, same in ((one.source, other.source), (one.target, other.target)):
            assert np.array_equal(side.values, same.values)
            assert np.array_equal(side.offsets, same.offsets)
    assert sum(chunk.dropped_long for chunk in here) > 0
    assert sum(chunk.dropped_ratio for chunk in here) > 0


@pytest.mark.slow
def test_a_corpus_prepared_on_the_cluster_has_the_bytes_of_one_prepared_here(tmp_path: Path) -> None:
    text = generate(ToyConfig(train_pairs=2_000, valid_pairs=20, test_pairs=20))
    paths = {}
    for split, pairs in text.items():
        for side, lines in (("source", pairs.source), ("target", pairs.target)):
            copies = 11 if split == "train" else 1  # 22,000 lines: three chunks
            (tmp_path / f"{split}.{side}").write_text("\n".join(list(lines) * copies))
            paths[f"{split}_{side}"] = str(tmp_path / f"{split}.{side}")
    config = CorpusConfig(source="files", files=FilesConfig(**paths), vocab_size=700, max_length=25, max_ratio=2)
    one, other = Folder.at(tmp_path / "one"), Folder.at(tmp_path / "other")
    summary = prepare(config, one, seed=1)
    assert prepare(config, other, seed=1, encode=encode_on_cluster) == summary
    assert summary.train.pairs > 10_000
    names = [path.relative_to(one.root) for path in Path(one.root).rglob("*") if path.is_file()]
    assert len(names) == 6
    for name in names:
        assert (Path(one.root) / name).read_bytes() == (Path(other.root) / name).read_bytes()


@pytest.mark.slow
def test_text_that_is_spoilt_while_it_is_encoded_is_told_as_in_one_process(tmp_path: Path) -> None:
    for side in ("source", "target"):
        (tmp_path / side).write_text("a dog sees a cat\n" * 300)
    parts = [(TextPart(path=str(tmp_path / side)),) for side in ("source", "target")]
    text = survey(PairedFiles(*parts, chunk_pairs=50), PairRules()).text
    job = EncodingJob(
        text,
        Vocabularies.of_both(learn_vocabulary(["a dog sees a cat"] * 9, 20, byte_fallback=False)),
        LengthRules(30, 0),
    )
    (tmp_path / "source").write_bytes(b"a dog\n" * 120 + b"\xff\n" + b"a dog\n" * 179)
    with pytest.raises(CorpusError, match=r"source line 121 holds the byte 0xff") as caught:
        list(encode_on_cluster(job, 0))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_killed_encoding_worker_loses_nothing(tmp_path: Path) -> None:
    text = generate(ToyConfig(train_pairs=1_000, valid_pairs=1, test_pairs=1))["train"]
    for side, lines in (("source", text.source), ("target", text.target)):
        (tmp_path / side).write_text("\n".join(list(lines) * 90))
    parts = [(TextPart(path=str(tmp_path / side)),) for side in ("source", "target")]
    found = survey(PairedFiles(*parts, chunk_pairs=4_000), PairRules()).text
    vocabulary = learn_vocabulary([*text.source, *text.target], 400, byte_fallback=False)
    killed: list[int] = []
    over = threading.Event()

    def kill_two() -> None:
        while len(killed) < 2 and not over.wait(0.02):
            for pid in set(encoders()) - set(killed):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                over.wait(2)
                break

    killer = threading.Thread(target=kill_two)
    killer.start()
    try:
        numbers = [
            chunk.number
            for chunk in encode_on_cluster(EncodingJob(found, Vocabularies.of_both(vocabulary), LengthRules(30, 0)), 0)
        ]
    finally:
        over.set()
        killer.join(timeout=240)
    assert killed
    assert numbers == list(range(23))


def encoders() -> list[int]:
    """Processes of this test's cluster that encode: they are the raylets' children, and the raylets are ours."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::MapBatches") and ours(int(path.parent.name)):
                found.append(int(path.parent.name))
    return found


def ours(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False
