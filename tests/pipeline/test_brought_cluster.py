"""Trained models and tables that one brings, on a cluster of several raylets: what workers read lies in the run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from hat_ray.api import run_recipe
from hat_ray.core.codec import from_json
from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.evaluate import EvaluateOutput
from hat_ray.latency.output import LatencyOutput
from hat_ray.model.checkpoints.about import About
from hat_ray.model.checkpoints.folder import write_model_folder
from hat_ray.model.checkpoints.native import save_model
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.models import export_place
from hat_ray.recipe import load_recipe
from hat_ray.search.selection import RetrainOutput
from hat_ray.search.winners import SearchOutput
from hat_ray.storage.folder import Folder
from tests.pipeline.conftest import TINY
from tests.pipeline.test_table_devices import PHONE, WORDS, space_of_the_team, write_table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = [
    *("supernet.updates=4", "supernet.validate_every=4", "supernet.workers=1", "supernet.accumulate=1"),
    *("retrain.updates=2", "retrain.validate_every=2", "retrain.baselines=[]"),
    *("search.evaluations=8", "search.limits_fraction=[0.7]", "evaluate.sentences=4"),
]


@pytest.fixture
def raylets() -> Iterator[str]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes(timeout=240)
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_phone_of_a_table_with_a_teacher_and_starts_that_only_the_driver_reaches(
    raylets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The brought files are named relative to the driver's folder, where no worker looks."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    recipe = load_recipe(TINY)
    run_recipe(recipe, str(tmp_path / "words"), local=True, only="corpus")
    vocabularies = Corpus.load(Folder.at(tmp_path / "words/corpus")).vocabularies
    space = recipe.space.build()
    save_model(Folder.at("mine"), "super", SuperTransformer(space, 400, recipe.model, seed=9))
    teacher = SubTransformer(space.largest(), 400, recipe.model, seed=8)
    write_model_folder(Folder.at("teacher"), teacher, vocabularies, About(origin="a test"))
    export_place("teacher", "exported", min_agreement=0, max_bleu_loss=100)
    write_table(tmp_path / "table", space_of_the_team())
    settings = [
        *(*SMALL, f"corpus.vocabulary.source={home}/teacher/sentencepiece.model"),
        *("corpus.distil_from=exported", "corpus.distil_beam=1", "corpus.toy.train_pairs=60"),
        *("supernet.init=mine/super.safetensors", "supernet.teacher=teacher"),
        *("retrain.init=[inherited, mine/super.safetensors]", "retrain.teacher=teacher"),
        *(f"latency.table={tmp_path}/table", "latency.rows_of=covering"),
        f'latency.devices=[{{"table": "{PHONE.slug}", "vocab_size": {WORDS}}}]',
    ]
    records = run_recipe(load_recipe(TINY, settings), str(tmp_path / "run"), address=raylets)
    outputs = {record.stage: record.output for record in records}
    (device,) = from_json(LatencyOutput, outputs["latency"], "output").devices.values()
    assert (device.device.name, device.rows, device.attached) == ("phone", 60, False)
    winners = from_json(SearchOutput, outputs["search"], "output").winners
    assert winners
    assert all(winner.measured_ms is None for winner in winners)
    trained = from_json(RetrainOutput, outputs["retrain"], "output").models
    assert {model.start for model in trained.values()} == {"inherited"}
    assert {start for model in trained.values() for start in model.starts} == {"inherited", "mine/super.safetensors"}
    scored = from_json(EvaluateOutput, outputs["evaluate"], "output").models
    assert not any(model.measured for model in scored.values())
    taught = Corpus.load(Folder.at(tmp_path / "run/corpus")).summary.taught
    assert taught is not None
    assert taught.sentences == 60
