"""Any number of workers, and any change of it on the way: the same model, but for rounding. Real processes, gloo."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hat_ray.model.checkpoints.native import load_super
from hat_ray.model.config import ModelConfig
from hat_ray.storage.folder import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.job import train_super

MODEL = ModelConfig(dropout=0.1)
CONFIG = TrainConfig(
    updates=24, max_tokens=200, accumulate=4, warmup_updates=5, validate_every=6, checkpoint_every=3, keep_last=4,
    valid_bleu_lines=13, stop_after=4, final="average_best", average_best=2,
)  # fmt: skip
STAGES = (2, 1, 3, 2)
"""Workers of each stage; every one but the last is stopped at its second checkpoint, when the first is written."""

WORKER = """
import sys
sys.path.insert(0, {tests!r})
import torch, torch.distributed as dist
from conftest import SPACE
from test_worker_numbers import CONFIG, MODEL, STAGES
from hat_ray.corpus.corpus import Corpus
from hat_ray.storage.folder import Folder
from hat_ray.train.job import train_super
from hat_ray.train.workers import OneWorker

rank = int(sys.argv[1])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://{meet}", rank=rank, world_size=max(STAGES))
groups = [dist.new_group(list(range(count))) for count in STAGES]

class Stop(Exception):
    pass

class Workers(OneWorker):
    def __init__(self, group, count, last):
        super().__init__()
        self.rank, self.group, self.world_size, self.last = rank, group, count, last

    def all_reduce(self, values):
        dist.all_reduce(values, group=self.group)

    def saved(self, checkpoint, figures):
        if not self.last:
            raise Stop

corpus = Corpus.load(Folder.at({corpus!r}))
for index, (group, count) in enumerate(zip(groups, STAGES)):
    if rank < count:
        try:
            workers = Workers(group, count, index + 1 == len(STAGES))
            train_super(SPACE, corpus, MODEL, CONFIG, Folder.at({folder!r}), 1, workers=workers)
        except Stop:
            pass
    dist.barrier()
"""


@pytest.mark.slow
def test_two_then_one_then_three_then_two_workers_equal_one(tiny_space, corpus, tmp_path):
    alone, changing = Folder.at(tmp_path / "alone"), Folder.at(tmp_path / "changing")
    expected = train_super(tiny_space, corpus, MODEL, CONFIG, alone, 1)
    code = WORKER.format(
        tests=str(Path(__file__).parent), meet=tmp_path / "meet", corpus=corpus.folder.uri, folder=changing.uri
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(rank)]) for rank in range(max(STAGES))]
    try:
        assert [process.wait(240) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
    result = train_super(tiny_space, corpus, MODEL, CONFIG, changing, 1)  # is over: read back
    for ours, theirs in zip(result.history, expected.history, strict=True):
        assert ours.update == theirs.update
        assert abs(ours.train_loss_bits - theirs.train_loss_bits) < 1e-5
        assert all(abs(ours.valid_loss_bits[name] - loss) < 1e-5 for name, loss in theirs.valid_loss_bits.items())
        assert ours.valid_bleu.keys() == theirs.valid_bleu.keys() == {"largest", "smallest"}
    assert (result.tokens, result.made_of) == (expected.tokens, expected.made_of)
    assert [point.update for point in result.curve] == [point.update for point in expected.curve]
    weights = load_super(changing, "supernet").weights()
    for name, weight in load_super(alone, "supernet").weights().items():
        if not name.endswith("in_proj_bias"):  # see test_hat_trajectory: a key's bias has only noise for a gradient
            torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
