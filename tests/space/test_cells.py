"""Decoder layers with attention or an SSRU: ids, sizes, genes, samples, costs and what predictors see of them."""

import dataclasses
import json
import random
from itertools import product

import numpy as np
import pytest

from hat_ray.core.config import canonical
from hat_ray.errors import SpaceError
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.preflight.estimate import super_params_of
from hat_ray.predictor.config import PredictorConfig
from hat_ray.predictor.predictor import Predictor
from hat_ray.predictor.rows import rows_of
from hat_ray.predictor.store import load_predictor, save_predictor
from hat_ray.recipe import parse_recipe
from hat_ray.report.network import Scale, draw
from hat_ray.space.architecture import Architecture
from hat_ray.space.config import SpaceConfig
from hat_ray.space.cost import count_macs, count_params
from hat_ray.space.derived import space_around, space_shown_by
from hat_ray.space.features import COST_FEATURES, SSRU_FEATURES, cost_features, layer_features
from hat_ray.space.genes import GeneCode
from hat_ray.space.hat_yaml import read_architecture, read_space, write_architecture, write_space
from hat_ray.space.presets import TOY
from hat_ray.storage.folder import Folder

CELLS = ("attention", "ssru")
SPACE = TOY.replaced(name="cells", decoder_self_heads=(4, 2), decoder_cells=CELLS)
SMALL = SPACE.replaced(
    encoder_embed_dims=(64,),
    encoder_depths=(1,),
    encoder_ffn_dims=(64,),
    encoder_heads=(4,),
    decoder_embed_dims=(64,),
    decoder_ffn_dims=(64,),
    decoder_cross_heads=(4,),
    decoder_cross_layers=(1,),
    decoder_depths=(1, 2),
    decoder_self_heads=(2, 4),
)


def with_cells(*cells: str) -> Architecture:
    plain = TOY.uniform({**TOY.picked(max), "decoder_depths": len(cells)})
    return dataclasses.replace(plain, extra=(("decoder_cells", cells),))


def test_the_heads_of_a_layer_without_self_attention_do_not_exist():
    mixed = with_cells("ssru", "attention")
    assert mixed.decoder.self_heads[0] == 1 < mixed.decoder.self_heads[1]
    other = dataclasses.replace(mixed, decoder=dataclasses.replace(mixed.decoder, self_heads=(2, 4)))
    assert other == mixed
    assert other.id == mixed.id
    assert with_cells("attention", "attention").extra == ()
    assert SPACE.contains(mixed)
    assert not TOY.contains(mixed)
    wrong = dataclasses.replace(mixed, decoder=dataclasses.replace(mixed.decoder, self_heads=(1, 1)))
    assert not SPACE.contains(wrong)  # the layer with self-attention needs a head count of the space
    with pytest.raises(SpaceError, match="decoder_cells must be one of"):
        with_cells("gru")


def test_a_space_has_as_many_networks_as_are_counted_listed_and_drawn():
    listed = GeneCode(SMALL).all()
    assert SMALL.size() == 3 + 3**2  # a layer has an SSRU, or self-attention with one of two head counts
    assert len(listed) == len(set(listed)) == len({SMALL.sample(random.Random(i)) for i in range(600)}) == 12
    only = SMALL.replaced(decoder_cells=("ssru",))
    assert only.size() == len(GeneCode(only).all()) == 2


def test_genes_give_back_architectures_shapes_and_canonical_rows():
    code, draw = GeneCode(SPACE), random.Random(1)
    some = [SPACE.sample(draw) for _ in range(300)]
    rows = code.encode(some)
    assert list(code.decoded(rows)) == some
    assert (code.canonical(rows) == rows).all()
    for name, of in (("costs", cost_features), ("layers", layer_features)):
        np.testing.assert_array_equal(of(code.decoded(rows)), of(some), err_msg=name)
    free = code.random_rows(500, np.random.default_rng(1))
    bred = code.canonical(free)
    assert (code.encode([code.decode(row) for row in bred.tolist()]) == bred).all()


def test_spaces_that_cover_and_are_shown_by_architectures():
    only = SPACE.replaced(decoder_cells=("ssru",), decoder_self_heads=(4,))
    assert SPACE.covers(only)
    assert SPACE.covers(SPACE.replaced(decoder_cells=("attention",)))
    assert not TOY.covers(SPACE)
    for some in (["ssru", "ssru"], ["attention", "ssru"]), (["ssru"],):
        shown = space_shown_by([with_cells(*cells) for cells in some])
        assert shown is not None
        assert SPACE.covers(shown)
    for trained in (with_cells("ssru", "attention"), with_cells("ssru")):
        assert space_around(trained).contains(trained)


def test_it_comes_back_from_yaml_json_and_recipes():
    draw = random.Random(3)
    for one in [SPACE.sample(draw) for _ in range(30)]:
        assert Architecture.from_json(one.to_json()) == one
        assert read_architecture(write_architecture(one), qkv_dim=128) == one
    assert read_space(write_space(SPACE), SPACE.name) == SPACE
    recipe = parse_recipe("{name: x, space: {decoder_self_heads: [4, 2], decoder_cells: [attention, ssru]}}", "here")
    assert recipe.space.build().id == SPACE.id
    assert "decoder_cells" not in canonical(SpaceConfig())  # fingerprints of before stay
    assert "decoder-cells-all-subtransformer" not in write_architecture(TOY.largest())


@pytest.mark.parametrize("cells", product(CELLS, repeat=2))
def test_parameters_are_those_of_the_model(cells):
    one = with_cells(*cells)
    model = SubTransformer(one, 100, ModelConfig())
    layers = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name)
    assert count_params(one) == layers
    attention = with_cells("attention", "attention")
    macs = count_macs(one, 30), count_macs(attention, 30)
    qkv, dim = one.qkv_dim, one.decoder.embed_dim
    less = (4 * dim * qkv + 2 * 30 * qkv + qkv) * 30 + 3 - 30 * (2 * dim * dim + 2 * dim)
    assert macs[1] - macs[0] == cells.count("ssru") * less
    space = SPACE.replaced(decoder_cells=tuple(dict.fromkeys(cells)))
    held = SuperTransformer(space, 100, ModelConfig())
    assert super_params_of(space, (100, 100), ModelConfig()) == sum(p.numel() for p in held.parameters())


def milliseconds(architectures: list[Architecture]) -> np.ndarray:
    """A device whose steps take 2 ms a layer with self-attention, 1 ms with an SSRU, and a part by the width."""
    return np.array(
        [1 + sum(2.0 if c == "attention" else 1.0 for c in a.cells) + a.decoder.embed_dim / 256 for a in architectures]
    )


def test_predictors_have_columns_for_cells_where_rows_have_ssru_layers(tmp_path):
    draw = random.Random(2)
    some = [SPACE.largest(), SPACE.smallest(), *(SPACE.sample(draw) for _ in range(150))]
    more = [SPACE.sample(draw) for _ in range(100)]
    rows = rows_of(some, milliseconds(some), np.ones(len(some)))
    assert rows.costs.shape[1] == len(COST_FEATURES) + len(SSRU_FEATURES)
    predictor = Predictor.fit(rows, PredictorConfig(), "here", SPACE.id, 1)
    errors = np.abs(predictor.predict(more) / milliseconds(more) - 1)
    assert np.median(errors) < 0.03
    save_predictor(predictor, Folder.at(tmp_path))
    again = load_predictor(Folder.at(tmp_path), "here", "here", SPACE.id)
    np.testing.assert_array_equal(again.predict(more), predictor.predict(more))
    assert json.loads((tmp_path / "here.json").read_text())["features"][15:17] == list(SSRU_FEATURES)
    assert predictor.extrapolation([SPACE.largest(), SPACE.smallest()]) == [None, None]


def test_a_predictor_without_rows_of_ssru_layers_says_that_it_has_seen_none():
    draw = random.Random(2)
    some = [TOY.largest(), TOY.smallest(), *(TOY.sample(draw) for _ in range(60))]
    rows = rows_of(some, milliseconds(some))
    assert rows.costs.shape[1] == len(COST_FEATURES)
    predictor = Predictor.fit(rows, PredictorConfig(), "here", TOY.id, 1)
    inside, outside = predictor.extrapolation([TOY.largest(), with_cells("ssru", "ssru", "ssru")])
    assert inside is None
    assert outside is not None
    assert "decoder_self_attentions 0 lies outside" in outside
    few = [*some[:12], *(SPACE.sample(draw) for _ in range(12))]
    helped = Predictor.fit(rows_of(few, 2 * milliseconds(few)), PredictorConfig(), "there", SPACE.id, 1, [predictor])
    more = [SPACE.sample(draw) for _ in range(50)]
    assert np.median(np.abs(helped.predict(more) / (2 * milliseconds(more)) - 1)) < 0.05


def test_a_drawing_names_the_cell_in_the_place_of_heads():
    one = with_cells("ssru", "attention")
    labels = [block.label.text for block in draw(one, Scale.of([one])).blocks]
    assert labels.count("SSRU") == 1
    assert f"{one.decoder.self_heads[1]} heads" in labels
