"""How Ray Tune does trials: what each reserves and where, in which files it keeps them, and without output."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune.stopper import Stopper

from hat_ray.cluster.placement import Place
from hat_ray.storage.folder import Folder

EXPERIMENT = "tune"


def of_trial(resources: Mapping[str, float], place: Place) -> tune.PlacementGroupFactory:
    """Return what one trial reserves, and where."""
    labels: dict[str, Any] = {"bundle_label_selector": [dict(place.rule.labels)]} if place.rule.labels else {}
    return tune.PlacementGroupFactory([{**resources, **place.rule.amounts}], **labels)


def run_config(folder: Folder, max_failures: int, watch: Any) -> tune.RunConfig:
    """Return how Tune keeps an experiment: in a folder that is deleted at its end, without checkpoints or output."""
    return tune.RunConfig(
        name=EXPERIMENT,
        storage_path=folder.root,
        storage_filesystem=None if folder.is_local else folder.file_system,
        failure_config=tune.FailureConfig(max_failures=max_failures),
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        callbacks=[watch],
        stop=watch if isinstance(watch, Stopper) else None,
        verbose=0,
    )


@contextmanager
def quiet_tune() -> Iterator[None]:
    """Set Tune up without files of its own for each trial, and without output."""
    settings = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
        "RAY_AIR_NEW_OUTPUT": "0",  # the old output is silent at verbose=0, the new one is not
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the search at once; it can be resumed
    }
    before = {name: os.environ.get(name) for name in settings}
    level = logging.getLogger("ray.tune").level
    os.environ.update(settings)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logging.getLogger("ray.tune").setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
