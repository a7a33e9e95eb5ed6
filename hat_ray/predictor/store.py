"""A predictor on disk: `<name>.json`, and `<name>.ubj` for the trees in XGBoost's own format. No pickle."""

import hashlib
import importlib.metadata
from dataclasses import asdict
from typing import ClassVar

import numpy as np
import xgboost as xgb
from pydantic import BaseModel, ConfigDict

from hat_ray.core.codec import read, read_checked, write
from hat_ray.errors import PredictorError
from hat_ray.predictor.predictor import HeldOut, Predictor
from hat_ray.predictor.prior import Costs, Prior
from hat_ray.predictor.rows import FEATURE_SET, feature_set
from hat_ray.space.features import LAYER_FEATURES, cost_names
from hat_ray.storage.folder import Folder

_SCHEMA = 2


class _Costs(BaseModel):
    base_ms: float
    ms_per_unit: list[float]


class _Stored(BaseModel):
    """The JSON file's fields."""

    model_config = ConfigDict(extra="forbid")

    FORMAT: ClassVar[int] = _SCHEMA

    device: str
    space_id: str
    feature_set: str
    features: list[str]
    prior: dict[str, _Costs]
    trees_share: float
    has_trees: bool
    sees_layers: bool
    seen_least: list[float]
    seen_largest: list[float]
    quality: dict[str, float]
    held_out_names: list[str]
    held_out_measured_ms: list[float]
    held_out_predicted_ms: list[float]
    held_out_slow: list[bool]
    source_predictors: list[str]
    rows_fingerprint: str
    versions: dict[str, str]
    trees_sha256: str | None = None
    """Of the trees' file; None where there are none, or an older version wrote them."""


def save_predictor(predictor: Predictor, folder: Folder, name: str | None = None) -> None:
    """Write a predictor under `name`, by default its device's; the JSON file comes last."""
    name = name or predictor.device
    trees = None if predictor.trees is None else bytes(predictor.trees.save_raw("ubj"))
    if trees is not None:
        folder.write_bytes(f"{name}.ubj", trees)
    stored = _Stored(
        device=predictor.device,
        space_id=predictor.space_id,
        feature_set=feature_set(predictor.width),
        features=[*cost_names(predictor.width), *LAYER_FEATURES],
        prior={
            part: _Costs(base_ms=costs.base_ms, ms_per_unit=costs.ms_per_unit.tolist())
            for part, costs in predictor.prior.parts.items()
        },
        trees_share=predictor.trees_share,
        has_trees=predictor.trees is not None,
        sees_layers=predictor.sees_layers,
        seen_least=predictor.seen[0].tolist(),
        seen_largest=predictor.seen[1].tolist(),
        quality=asdict(predictor.quality),
        held_out_names=list(predictor.held_out.names),
        held_out_measured_ms=predictor.held_out.measured_ms.tolist(),
        held_out_predicted_ms=predictor.held_out.predicted_ms.tolist(),
        held_out_slow=predictor.held_out.slow.tolist(),
        source_predictors=list(predictor.source_predictors),
        rows_fingerprint=predictor.rows_fingerprint,
        versions={package: importlib.metadata.version(package) for package in ("hat-ray", "xgboost", "numpy", "scipy")},
        trees_sha256=None if trees is None else hashlib.sha256(trees).hexdigest(),
    )
    write(folder, f"{name}.json", stored)


def load_predictor(folder: Folder, name: str, device: str | None = None, space_id: str | None = None) -> Predictor:
    """Read a predictor; raises PredictorError unless it is for `device` and `space_id`, where those are given."""
    stored = _read(folder, name)
    width = len(stored.seen_least)
    if stored.feature_set != feature_set(width) or stored.features != [*cost_names(width), *LAYER_FEATURES]:
        raise PredictorError(
            f"{folder}/{name}.json was fitted to the features {stored.feature_set}, this hat-ray computes "
            f"{FEATURE_SET}: fit it again with `hat-ray predict fit`"
        )
    predictor = Predictor(
        device=stored.device,
        space_id=stored.space_id,
        prior=Prior({part: Costs(c.base_ms, np.array(c.ms_per_unit)) for part, c in stored.prior.items()}),
        trees=_read_trees(folder, name, stored.trees_sha256) if stored.has_trees else None,
        trees_share=stored.trees_share,
        sees_layers=stored.sees_layers,
        seen=np.array([stored.seen_least, stored.seen_largest]),
        held_out=HeldOut(
            np.array(stored.held_out_measured_ms),
            np.array(stored.held_out_predicted_ms),
            np.array(stored.held_out_slow, dtype=bool),
            tuple(stored.held_out_names),
        ),
        rows_fingerprint=stored.rows_fingerprint,
        source_predictors=tuple(stored.source_predictors),
    )
    predictor.require(device, space_id)
    return predictor


def _read(folder: Folder, name: str) -> _Stored:
    if not folder.exists(f"{name}.json"):
        raise PredictorError(f"no predictor {name} in {folder}: fit one with `hat-ray predict fit`")
    return read(folder, f"{name}.json", _Stored)


def _read_trees(folder: Folder, name: str, sha256: str | None) -> xgb.Booster:
    trees = xgb.Booster({"nthread": 1})
    try:
        trees.load_model(bytearray(read_checked(folder, f"{name}.ubj", sha256)))
    except xgb.core.XGBoostError as error:
        raise PredictorError(f"{folder}/{name}.ubj is missing or damaged: fit the predictor again") from error
    return trees
