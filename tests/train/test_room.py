import pytest

from hat_ray.cluster.metrics import AGE, METRICS, UPDATES, VALID_LOSS
from hat_ray.cluster.training.status import MetricSample, TrainingStatus, samples
from hat_ray.errors import HatRayError
from hat_ray.train.capacity import Patience, needs, share_each, too_small, workers_that_fit
from hat_ray.train.config import TrainConfig

CONFIG = TrainConfig(workers=3, accumulate=3, threads=2, max_failures=2, max_wait_s=100)


def test_a_worker_stays_within_one_node():
    nodes = [{"CPU": 3.0}, {"CPU": 1.0}, {"CPU": 4.0}, {"GPU": 8.0}]
    assert workers_that_fit(nodes, {"CPU": 2.0}) == 3
    assert workers_that_fit(nodes, {"CPU": 2.0, "GPU": 1.0}) == 0
    assert workers_that_fit([], {"CPU": 2.0}) == 0
    assert workers_that_fit([{"CPU": 64.0, "GPU": 2.0}], needs(CONFIG.model_copy(update={"use_gpu": True}))) == 2


def test_few_models_are_trained_by_all_workers_each_and_many_side_by_side():
    eight = CONFIG.model_copy(update={"workers": 8, "accumulate": 8})
    assert share_each(3, eight, room=8)
    assert not share_each(8, eight, room=8)
    assert not share_each(3, eight, room=4)  # eight would wait without end
    assert share_each(3, eight.model_copy(update={"min_workers": 2}), room=4)
    assert not share_each(1, CONFIG.model_copy(update={"workers": 1}), room=8)


def test_what_is_missing_is_said_in_one_line():
    message = too_small(CONFIG, 3, [{"CPU": 3.0}, {"CPU": 1.0}])
    assert message == "training needs 6 CPUs (3 workers), the cluster has 4, room for 1"


def test_waiting_is_forgotten_with_every_new_checkpoint():
    patience = Patience(CONFIG)
    for newest in ("update-1", "update-2", "update-3"):
        patience.progressed(newest)
        patience.wait(90, "it is busy")
        patience.progressed(newest)
    with pytest.raises(HatRayError, match="it is busy; it waited 180 s"):
        patience.wait(90, "it is busy")


def test_waiting_is_told_now_and_then_and_ends():
    patience = Patience(CONFIG)
    assert patience.wait(60, "training finds no room") == "training finds no room: it waits, 40 s more at most"
    assert patience.wait(10, "training finds no room") is None
    with pytest.raises(HatRayError, match="training finds no room; it waited 110 s: add nodes, lower") as caught:
        patience.wait(40, "training finds no room")
    assert "\n" not in str(caught.value)


def test_a_lost_group_has_no_progress_and_what_outlives_it_is_not_heard():
    status = TrainingStatus()
    first = status.begin(workers=3)
    status.report_progress(0, (20, 100, {}))
    status.lose("its node is gone")
    assert status.job().latest is None
    assert status.job().losses == ["its node is gone"]
    second = status.begin(workers=2)
    status.fail(HatRayError("the folder is another's"), first)
    assert (status.job().mistake, status.job().workers) == (None, 2)
    status.fail(HatRayError("the loss is infinite"), second)
    assert str(status.job().mistake) == "the loss is infinite"


def test_the_dashboard_gets_every_metric_and_the_age_rises_while_nothing_happens():
    status = TrainingStatus()
    status.report_progress(0, (20, 100, {"tokens_per_s": 5.0, "lr": 0.1, "loss_bits": 7.0}))
    assert samples(status.jobs()[0], began=1000.0, now=1030.0)[0] == MetricSample(AGE, 30.0)
    status.report_figures(0, {"train/grad_norm": 2.0})
    status.report_figures(0, {"valid/loss_bits/largest": 6.0, "valid/loss_bits/smallest": 8.0})
    status.report_figures(0, {"checkpoint/update": 20})
    job = status.jobs()[0]
    found = {(sample.metric, sample.model): sample.value for sample in samples(job, 1000.0, job.saved + 7)}
    assert found[AGE, ""] == pytest.approx(7)
    assert found[UPDATES, ""] == 20
    assert (found[VALID_LOSS, "largest"], found[VALID_LOSS, "smallest"]) == (6.0, 8.0)
    assert {metric for metric, _ in found} == {name for name in METRICS if name.startswith("hat_ray_train_")}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_workers": 4}, "min_workers must not exceed workers, got 4 above 3"),
        ({"final": "best", "keep_best": False}, "final=best needs keep_best"),
        ({"final": "best", "average_last": 5}, "final=best averages nothing, got average_last 5"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**{**CONFIG.model_dump(), **values})


def test_where_and_how_it_is_watched_does_not_decide_what_is_learnt():
    other = CONFIG.model_copy(
        update={"workers": 1, "min_workers": 1, "max_wait_s": 1.0, "tensorboard": False, "mlflow": "x", "final": "best"}
    )
    assert other.what_is_learnt() == CONFIG.what_is_learnt()
