"""What an SSRU in the place of self-attention saves a decoder, on each runtime: time in turns, and the state's memory.

One thread, batch 1, a student of 6 encoder and 2 decoder layers, widths of 256. Both decoders translate the same source
to the same length in turns; a pair's ratio is of CPU time. The bytes are those that differ from step to step: keys and
values, or an SSRU's rows; the encoder's keys and values are the same for both.
"""

import dataclasses

import pytest
import torch

from hat_ray.latency.timing.engines import timing_state
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.protocol import RuntimeSettings, load_engine, why_unsupported
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from tests.benchmarks.paired import loss

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

VOCAB, WIDTH, DEPTH, SOURCE = 8000, 256, 2, 30
ATTENTION = Architecture(
    EncoderShape(WIDTH, (1024,) * 6, (4,) * 6),
    DecoderShape(WIDTH, (1024,) * DEPTH, (4,) * DEPTH, (4,) * DEPTH, (1,) * DEPTH),
    WIDTH,
)
SSRU = dataclasses.replace(ATTENTION, extra=(("decoder_cells", ("ssru",) * DEPTH),))
RUNTIMES = [("eager", "fp32"), ("packed", "fp32"), ("onnx", "fp32"), ("onnx", "int8")]


@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize(("runtime", "dtype"), RUNTIMES, ids=[" ".join(each) for each in RUNTIMES])
def test_an_ssru_against_self_attention(runtime: str, dtype: str, beam: int) -> None:
    settings = RuntimeSettings(dtype=dtype)
    if reason := why_unsupported(runtime, settings, SSRU):
        pytest.skip(reason)
    source = torch.arange(4, 4 + SOURCE)[None]
    with timing_state(1), torch.inference_mode():
        engines = [
            load_engine(SubTransformer(shape, VOCAB, ModelConfig()).eval(), runtime, settings)
            for shape in (ATTENTION, SSRU)
        ]
        for target in (30, 120):

            def translated(engine, target=target):
                state, rows = engine.start(source, beam), torch.arange(beam)
                tokens = torch.full((beam,), 2)
                for _ in range(target):
                    tokens = engine.best(tokens, state, 2 * beam).words[:, 0]
                    state.reorder(rows)

            attention, ssru = engines
            found = loss(lambda: translated(attention), lambda: translated(ssru), 25)  # noqa: B023
            print(f"\n{runtime} {dtype}, beam {beam}, {target} words: SSRU {found}")


@pytest.mark.parametrize("beam", [1, 5])
def test_the_memory_of_a_decodings_state(beam: int) -> None:
    source = torch.arange(4, 4 + SOURCE)[None]
    for target in (30, 120, 480):
        held = []
        for shape in (ATTENTION, SSRU):
            model = SubTransformer(shape, VOCAB, ModelConfig()).eval()
            with torch.inference_mode():
                state = model.start(source, beam)
                for _ in range(target):
                    model.step(torch.full((beam,), 7), state)
            held.append(sum(t.nbytes for layer in state.layers for t in _tensors(layer.own)))
        print(f"\nbeam {beam}, {target} words: {held[0]:,} bytes of keys and values, {held[1]:,} of SSRU states")
        assert held[1] == DEPTH * beam * WIDTH * 4


def _tensors(own: object) -> list[torch.Tensor]:
    return [getattr(own, field.name) for field in dataclasses.fields(own)]  # type: ignore[arg-type]
