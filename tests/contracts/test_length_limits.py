"""The longest length of a translation follows from its own source, not from its neighbours, on every runtime."""

from copy import deepcopy

import pytest
import torch

from hat_ray.corpus.batches import pad_sources
from hat_ray.model.beam import beam_search
from hat_ray.model.protocol import EOS, BeamSettings, Engine, WholeEngine
from hat_ray.runtime.onnx.engine import OnnxEngine
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, load_engine
from hat_ray.runtime.standalone import beams
from tests.contracts.test_runtimes import ENDS_EARLY, PLAIN, here, sentences
from tests.runtime.models import a_model

LIMITS = [2 + row % 11 for row in range(16)]


@torch.inference_mode()
def within(engine: Engine, beam: int, limits: int | list[int]) -> list[list[int]]:
    if isinstance(engine, WholeEngine):
        return engine.translate(sentences(), BeamSettings(beam, 1.0, limits))
    found = beam_search(engine, pad_sources(sentences()), beam=beam, max_length=limits)
    return [[token for token in best[0].tokens if token != EOS] for best in found]


def require_each_its_own(engine: Engine, beam: int) -> None:
    together = within(engine, beam, LIMITS)
    alone = {limit: within(engine, beam, limit) for limit in set(LIMITS)}
    assert together == [alone[limit][row] for row, limit in enumerate(LIMITS)]
    longest = alone[max(LIMITS)]
    assert sum(len(one) > limit for one, limit in zip(longest, LIMITS, strict=True)) > 3, "no limit bounds anything"


@pytest.mark.parametrize("runtime", RUNTIMES.own_names)
@pytest.mark.parametrize(("beam", "seed"), [(1, 0), (3, 0), (4, ENDS_EARLY), (3, ENDS_EARLY)])
def test_each_sentence_keeps_its_own_limit_beside_longer_ones(runtime: str, beam: int, seed: int) -> None:
    here(runtime)
    model = a_model(PLAIN, seed=seed)
    engine = load_engine(deepcopy(model), runtime, RuntimeSettings())
    if seed == ENDS_EARLY:  # most searches end before their limits, some within a step of it
        assert within(engine, beam, LIMITS) == [within(engine, beam, limit)[row] for row, limit in enumerate(LIMITS)]
        return
    require_each_its_own(engine, beam)


def test_the_loader_of_an_export_keeps_the_same_limits() -> None:
    engine = OnnxEngine.of(a_model(PLAIN), "fp32")
    found = beams.beam_search(
        engine.graphs,
        pad_sources(sentences()).numpy(),
        beam=3,
        length_penalty=1.0,
        max_length=LIMITS,
        pad=1,
        eos=EOS,
    )
    assert found == within(engine, 3, LIMITS)
