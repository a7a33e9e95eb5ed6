"""A new device from few rows: other devices lend, and the rows are chosen."""

from pathlib import Path

import numpy as np

from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.design import most_informative, next_architectures, relative_columns
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.quality import quality
from hat_ray.predictor.rows import rows_of
from hat_ray.predictor.store import load_predictor, save_predictor
from hat_ray.space.features import cost_features
from hat_ray.space.presets import SPACE0
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from tests.predictor.hat_tables import hat_table, split
from tests.predictor.test_predictor import sampled

CONFIG = PredictorConfig()


def test_other_devices_take_a_quarter_off_the_error_of_ten_rows(shared: Path, tmp_path: Path) -> None:
    source_predictors = [
        Predictor.fit(hat_table(shared, name), CONFIG, name, "hat", 0)
        for name in ("wmt14ende_cpu_xeon", "wmt14ende_gpu_titanxp", "wmt14enfr_gpu_titanxp")
    ]
    rows, alone, lent = hat_table(shared, "wmt14enfr_cpu_xeon"), [], []
    for seed in range(6):
        train, test = split(10, seed)
        for lenders, errors in (([], alone), (source_predictors, lent)):
            predictor = Predictor.fit(rows[train], CONFIG, "new", "hat", seed, lenders)
            errors.append(quality(rows.total_ms[test], predictor.predict_rows(rows[test])).mape)
    assert np.mean(lent) < 0.75 * np.mean(alone)
    save_predictor(predictor, Folder.at(tmp_path))
    loaded = load_predictor(Folder.at(tmp_path), "new")
    assert loaded.source_predictors == tuple(source.device for source in source_predictors)
    assert loaded.predict_rows(rows).tolist() == predictor.predict_rows(rows).tolist()


def test_a_device_unlike_all_others_is_learned_from_its_own_rows() -> None:
    architectures, others = sampled(60), sampled(200, seed=1)
    odd = lambda some: cost_features(some)[:, 0] + 1e-6 * cost_features(some)[:, 5]  # noqa: E731
    usual = lambda some: cost_features(some)[:, 6] + 1e-6 * cost_features(some)[:, 13]  # noqa: E731
    source = Predictor.fit(rows_of(others, usual(others)), CONFIG, "usual", SPACE0.id, 0)
    predictor = Predictor.fit(rows_of(architectures, odd(architectures)), CONFIG, "odd", SPACE0.id, 0, [source])
    assert quality(odd(others), predictor.predict(others)).mape < 1


def test_the_first_choices_are_the_ends_and_none_comes_twice() -> None:
    first = next_architectures(SPACE0, [], 10, seed=3)
    assert first[:2] == [SPACE0.smallest(), SPACE0.largest()]
    more = next_architectures(SPACE0, first, 12, seed=3)
    assert len({*first, *more}) == 22
    assert next_architectures(SPACE0, [], 10, seed=3) == first
    source = Predictor.fit(rows_of(first, cost_features(first).sum(axis=1)), CONFIG, "d", SPACE0.id, 0)
    assert len(set(next_architectures(SPACE0, first, 5, 3, [source]))) == 5


def test_a_space_that_runs_dry_gives_what_it_has() -> None:
    space = SearchSpace(
        name="two",
        **{"encoder_embed_dims": (32,), "encoder_depths": (1,), "encoder_ffn_dims": (32,), "encoder_heads": (2,)},
        **{"decoder_embed_dims": (32,), "decoder_depths": (1, 2), "decoder_ffn_dims": (32,), "qkv_dim": 32},
        **{"decoder_self_heads": (2,), "decoder_cross_heads": (2,), "decoder_cross_layers": (1,)},
    )
    assert len(next_architectures(space, [], 10, seed=0)) == 2
    assert next_architectures(space, [space.smallest(), space.largest()], 10, seed=0) == []


def test_chosen_rows_tell_more_than_random_ones() -> None:
    """By the measure that they are chosen for: the volume of what is still unknown."""
    architectures = sampled(300)
    columns = relative_columns(cost_features(architectures), [])
    chosen = most_informative(columns[:0], columns, 20)
    known = lambda rows: np.linalg.slogdet(np.eye(16) * 0.05 + columns[rows].T @ columns[rows])[1]  # noqa: E731
    at_random = [known(np.random.default_rng(seed).choice(300, 20, replace=False)) for seed in range(50)]
    assert known(chosen) > max(at_random)
