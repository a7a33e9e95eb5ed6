"""A predictor on disk: `<name>.json`, and `<name>.ubj` for the trees in XGBoost's own format. No pickle."""

import importlib.metadata
from typing import Any

import numpy as np
import xgboost as xgb
from pydantic import BaseModel, ConfigDict, ValidationError

from hat_ray.errors import PredictorError
from hat_ray.predictor.features import FEATURE_SET
from hat_ray.predictor.model import HeldOut, Predictor
from hat_ray.predictor.prior import Prior
from hat_ray.predictor.quality import Quality
from hat_ray.space.features import COST_FEATURES
from hat_ray.storage import Folder

_SCHEMA = 1


class _Quality(BaseModel):
    mape: float
    within_10: float
    kendall_tau: float
    rows: int


class _Stored(BaseModel):
    """The JSON file's fields."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int
    device: str
    space_id: str
    feature_set: str
    features: list[str]
    base_ms: float
    ms_per_unit: list[float]
    trees_share: float
    has_trees: bool
    quality: _Quality
    held_out_measured_ms: list[float]
    held_out_predicted_ms: list[float]
    rows_fingerprint: str
    versions: dict[str, str]


def save_predictor(predictor: Predictor, folder: Folder, name: str | None = None) -> None:
    """Write a predictor under `name`, by default its device's; the JSON file comes last."""
    name = name or predictor.device
    if predictor.trees is not None:
        folder.write_bytes(f"{name}.ubj", bytes(predictor.trees.save_raw("ubj")))
    stored = _Stored(
        schema_version=_SCHEMA,
        device=predictor.device,
        space_id=predictor.space_id,
        feature_set=predictor.feature_set,
        features=list(COST_FEATURES),
        base_ms=predictor.prior.base_ms,
        ms_per_unit=predictor.prior.ms_per_unit.tolist(),
        trees_share=predictor.trees_share,
        has_trees=predictor.trees is not None,
        quality=_Quality(**vars(predictor.quality)),
        held_out_measured_ms=predictor.held_out.measured_ms.tolist(),
        held_out_predicted_ms=predictor.held_out.predicted_ms.tolist(),
        rows_fingerprint=predictor.rows_fingerprint,
        versions={package: importlib.metadata.version(package) for package in ("hat-ray", "xgboost", "numpy", "scipy")},
    )
    folder.write_json(f"{name}.json", stored.model_dump())


def load_predictor(folder: Folder, name: str, device: str | None = None, space_id: str | None = None) -> Predictor:
    """Read a predictor; raises PredictorError unless it is for `device` and `space_id`, where those are given."""
    stored = _read(folder, name)
    if stored.feature_set != FEATURE_SET or stored.features != list(COST_FEATURES):
        raise PredictorError(
            f"{folder}/{name}.json was fitted to the features {stored.feature_set}, this hat-ray computes "
            f"{FEATURE_SET}: fit it again with `hat-ray predict fit`"
        )
    predictor = Predictor(
        device=stored.device,
        space_id=stored.space_id,
        prior=Prior(stored.base_ms, np.array(stored.ms_per_unit, dtype=np.float64)),
        trees=_read_trees(folder, name) if stored.has_trees else None,
        trees_share=stored.trees_share,
        quality=Quality(**stored.quality.model_dump()),
        held_out=HeldOut(np.array(stored.held_out_measured_ms), np.array(stored.held_out_predicted_ms)),
        rows_fingerprint=stored.rows_fingerprint,
    )
    predictor.require(device, space_id)
    return predictor


def _read(folder: Folder, name: str) -> _Stored:
    try:
        value: Any = folder.read_json(f"{name}.json")
        return _Stored.model_validate(value)
    except FileNotFoundError as error:
        raise PredictorError(f"no predictor {name} in {folder}: fit one with `hat-ray predict fit`") from error
    except (ValidationError, ValueError) as error:
        raise PredictorError(f"{folder}/{name}.json is not a predictor: {str(error).splitlines()[0]}") from error


def _read_trees(folder: Folder, name: str) -> xgb.Booster:
    trees = xgb.Booster({"nthread": 1})
    try:
        trees.load_model(bytearray(folder.read_bytes(f"{name}.ubj")))
    except (FileNotFoundError, xgb.core.XGBoostError) as error:
        raise PredictorError(f"{folder}/{name}.ubj is missing or damaged: fit the predictor again") from error
    return trees
