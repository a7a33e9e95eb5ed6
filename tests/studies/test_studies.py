"""Both studies in a real run folder: what they leave, what they never do twice, and what the page shows."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.api import run_recipe
from hat_ray.cli import app
from hat_ray.core.codec import from_json
from hat_ray.corpus.batches import collate, make_unshuffled_batches
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import HatRayError
from hat_ray.model.checkpoints.native import load_sub, load_super
from hat_ray.recipe import load_recipe
from hat_ray.report.render import read_report
from hat_ray.search.scorer import CandidateScorer
from hat_ray.storage.folder import Folder
from hat_ray.studies.results import PolicyStudy, RankingResult
from hat_ray.studies.scoring_jobs import one_thread

TINY = str(Path(__file__).parents[1] / "pipeline" / "tiny.yaml")
SMALL = [
    *("ranking.architectures=4", "ranking.bins=2", "ranking.seeds=2", "ranking.resamples=100", "retrain.updates=4"),
    *("supernet.updates=8", "policies.compare=[front/uniform, importance/uniform, front/sandwich+distill]"),
    *("policies.seeds=1", "corpus.toy.train_pairs=200", "corpus.vocab_size=300"),
]


def trained(place: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in place.glob("trained/*/*/train.json")}


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "tiny"
    records = run_recipe(load_recipe(TINY, SMALL), str(place), local=True, only="policies")
    assert [record.stage for record in records] == ["corpus", "policies", "report"]
    return place


def test_every_policy_is_scored_against_the_same_trainings_from_scratch(studied: Path):
    folder = Folder.at(studied)
    study = from_json(PolicyStudy, folder.child("policies").read_json("stage.json")["output"], "the study")
    assert [one.policy for one in study.supernets] == ["front/uniform", "importance/uniform", "front/sandwich+distill"]
    assert study.supernets[0].updates == 8
    assert study.supernets[2].updates < 4
    assert study.latency.proxy
    assert [one.bin for one in study.tried] == [0, 0, 1, 1]
    for one in study.tried:
        for seed, loss in enumerate(one.scratch_loss_bits):
            (place,) = studied.glob(f"trained/scratch/{one.architecture.id}-s{seed}-*")
            assert load_sub(Folder.at(place), "model").architecture == one.architecture
            assert json.loads((place / "train.json").read_text())["result"]["valid_loss_bits"]["model"] == loss
    assert len(trained(studied)) == 3 + 4 * 2


def test_inherited_losses_are_those_of_the_policys_own_supernet(studied: Path):
    study = from_json(PolicyStudy, Folder.at(studied).child("policies").read_json("stage.json")["output"], "the study")
    valid = Corpus.load(Folder.at(studied).child("corpus")).valid
    batches = [collate(valid, rows) for rows in make_unshuffled_batches(valid, 4096)]
    for net in study.supernets:
        (place,) = studied.glob(f"trained/supernets/{net.policy.replace('/', '.').replace('+', '.')}-s0-*")
        model = load_super(Folder.at(place), "supernet")
        assert model.config.sharing == net.policy.split("/")[0]
        score = CandidateScorer(model, batches, 0.1)
        with one_thread():
            for one, loss in zip(study.tried, net.inherited_loss_bits, strict=True):
                assert score(one.architecture) == pytest.approx(loss, rel=1e-6)
            assert score(model.space.largest()) == pytest.approx(net.largest_loss_bits, rel=1e-5)


def test_the_report_of_a_run_with_nothing_else_shows_the_study(studied: Path):
    data = read_report(Folder.at(studied / "report"))
    assert data.policies is not None
    assert data.ranking is None
    assert data.devices == ()
    page = (studied / "report" / "report.html").read_text()
    assert "Training policies at equal compute" in page
    assert 'href="#policies"' in page
    assert 'href="#frontier"' not in page
    table = (studied / "policies" / "policies.md").read_text().splitlines()
    assert table[0].startswith("| policy | updates |")
    assert table[2].startswith("| front/uniform | 8 |")


def test_more_seeds_and_architectures_train_only_what_is_missing(studied: Path):
    before = trained(studied)
    more = [*SMALL, "policies.compare=[front/uniform]", "policies.seeds=2", "ranking.architectures=5"]
    run_recipe(load_recipe(TINY, more), str(studied), local=True, only="policies")
    after = trained(studied)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1 + 2
    run_recipe(load_recipe(TINY, SMALL), str(studied), local=True, only="policies")
    assert trained(studied) == after


def test_health_shares_the_trainings_and_adds_bleu(studied: Path):
    place = str(studied)
    settings = [*SMALL, "ranking.bleu_sentences=3", "evaluate.beam=1"]
    before = trained(studied)
    with pytest.raises(HatRayError, match="stage ranking reads from supernet"):
        run_recipe(load_recipe(TINY, settings), place, local=True, only="ranking")
    run_recipe(load_recipe(TINY, settings), place, local=True, only="supernet")
    arguments = [part for change in settings for part in ("--set", change)]
    result = CliRunner().invoke(app, ["train", "ranking", TINY, "--local", "--run", place, "--json", *arguments])
    assert result.exit_code == 0, result.output
    ranking = from_json(RankingResult, json.loads(result.stdout)["ranking"], "the study")
    assert trained(studied) == before
    assert len(ranking.tried) == len(ranking.inherited_loss_bits) == len(ranking.inherited_bleu) == 4
    assert all(len(one.scratch_bleu) == len(one.scratch_loss_bits) == 2 for one in ranking.tried)
    assert ranking.loss_ranks[0].name == "inherited loss"
    assert [rank.name for rank in ranking.bleu_ranks[:2]] == ["inherited BLEU", "inherited loss"]
    data = read_report(Folder.at(studied / "report"))
    assert data.ranking == ranking
    assert 'id="ranking-bleu"' in (studied / "report" / "report.html").read_text()


def test_health_of_another_supernet_is_not_shown(studied: Path, caplog: pytest.LogCaptureFixture):
    place, changed = str(studied), [*SMALL, "supernet.updates=6"]
    for stage in ("supernet", "ranking"):
        run_recipe(load_recipe(TINY, SMALL), place, local=True, only=stage)
    assert read_report(Folder.at(studied / "report")).ranking is not None
    run_recipe(load_recipe(TINY, changed), place, local=True, only="supernet")
    run_recipe(load_recipe(TINY, changed), place, local=True, only="report")
    assert "ranking is of another supernet and is not shown" in caplog.text
    data = read_report(Folder.at(studied / "report"))
    assert data.ranking is None
    assert data.policies is not None
