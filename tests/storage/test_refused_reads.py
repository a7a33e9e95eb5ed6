"""Whatever reads from a storage that refuses stops there: nothing is taken for missing, damaged or begun anew."""

import logging
from collections.abc import Callable

import pytest
import torch

from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.shards import finished_shards
from hat_ray.errors import DeniedError
from hat_ray.latency.table.exchange import export_csvs, import_table
from hat_ray.latency.table.table import read_table
from hat_ray.model.checkpoints.native import load_sub, load_super
from hat_ray.pipeline.run_folder import Run
from hat_ray.predictor.store import load_predictor
from hat_ray.recipe import load_recipe, load_run_recipe
from hat_ray.report.render import read_report
from hat_ray.search.warm_start import table_at
from hat_ray.storage.folder import Folder
from hat_ray.storage.patience import PATIENCE
from hat_ray.train.checkpoints import STATE, TENSORS, Checkpoint, CheckpointStore
from tests.s3 import S3, Faults

READERS: dict[str, Callable[[Folder], object]] = {
    "newest checkpoint": lambda folder: CheckpointStore(folder, "f", 1).latest(),
    "best checkpoint": lambda folder: CheckpointStore(folder, "f", 1, keep_best=1).average(1, "", best=True),
    "SuperTransformer": lambda folder: load_super(folder, "supernet"),
    "model": lambda folder: load_sub(folder, "model"),
    "predictor": lambda folder: load_predictor(folder, "here"),
    "corpus": Corpus.load,
    "shards": finished_shards,
    "report": read_report,
    "run": lambda folder: Run.open(folder, load_recipe("toy")),
    "recipe of a run": load_run_recipe,
    "candidates": table_at,
    "latency rows": lambda folder: read_table(folder, "space", "device"),
    "rows to export": lambda folder: export_csvs(folder, "out"),
    "rows to import": lambda folder: import_table("here", folder),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_reader_stops_where_it_is_refused(
    s3: S3, reader: Callable[[Folder], object], monkeypatch: pytest.MonkeyPatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PATIENCE, "0")
    folder = Folder.at(s3.place())
    folder.write_text("something", "else")
    with (
        s3.going_wrong(Faults("refuse", share=1.0, methods=("GET", "HEAD"))),
        pytest.raises(DeniedError, match=r"access to s3://.* is refused .*: renew the credentials") as caught,
    ):
        reader(folder)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert folder.list() == ["something"]


@pytest.mark.parametrize("file", [STATE, TENSORS])
def test_a_checkpoint_that_is_refused_is_neither_skipped_nor_made_again(
    s3: S3, file: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Seen: 403 for a while, the newest checkpoints were skipped as damaged, and training began anew over them."""
    folder = Folder.at(s3.place("checkpoints"))
    store = CheckpointStore(folder, "f", keep_last=2)
    for update in (1, 2):
        store.save(Checkpoint(update, {"model/w": torch.full((3,), float(update))}, {}))
    store.wait(must_succeed=True)
    names = folder.list()
    monkeypatch.setenv(PATIENCE, "0.2")
    with (
        s3.going_wrong(Faults("refuse", share=1.0, only=f"update-00000002/{file}")),
        caplog.at_level(logging.WARNING),
        pytest.raises(DeniedError, match=f"update-00000002/{file}"),
    ):
        store.latest()
    assert "damaged" not in caplog.text
    assert folder.list() == names == ["update-00000001", "update-00000002"]
    newest = store.latest()
    assert newest is not None
    assert newest.update == 2
