"""What a request's settings cost: the general search beside the model's own, in turns."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch

from hat_ray.model.beam import beam_search
from hat_ray.model.hypotheses.found import Task
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.hypotheses.stepwise import find_on
from hat_ray.model.protocol import StepwiseEngine
from hat_ray.runtime.protocol import RuntimeSettings, load_engine
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from tests.runtime.models import a_model

SHAPE = Architecture(
    EncoderShape(192, (512,) * 4, (4,) * 4), DecoderShape(192, (512,) * 3, (4,) * 3, (4,) * 3, (1,) * 3), qkv_dim=192
)
WORDS, LENGTH, MOST, BEAM, ROUNDS = 8_000, 20, 24, 5, 15
WANTED = {
    "n-best": Decoding(n_best=BEAM),
    "no_repeat_ngram_size 3": Decoding(no_repeat_ngram_size=3),
    "repetition_penalty 1.2": Decoding(repetition_penalty=1.2),
    "alignments": Decoding(alignments=True),
    "coverage_penalty 0.2": Decoding(coverage_penalty=0.2),
    "sampling, top_k 10": Decoding(sampling=True, top_k=10, seed=1),
    "sampling, all words": Decoding(sampling=True, seed=1),
}


@pytest.mark.benchmark
@pytest.mark.parametrize("sentences", [1, 32])
@pytest.mark.parametrize("runtime", ["packed", "onnx"])
def test_cost_of_settings(runtime: str, sentences: int) -> None:
    torch.set_num_threads(1)
    engine = load_engine(a_model(SHAPE, vocab=WORDS), runtime, RuntimeSettings())
    source = torch.randint(4, WORDS, (sentences, LENGTH), generator=torch.Generator().manual_seed(1))
    source[:, -1] = 2
    task = Task(source.tolist(), [[]] * sentences, [MOST] * sentences, [MOST] * sentences, BEAM, 1.0)
    ways: dict[str, Callable[[], object]] = {"the model's own": lambda: own(engine, source)}  # type: ignore[arg-type]
    ways |= {name: lambda wanted=wanted: find_on(engine, task, wanted) for name, wanted in WANTED.items()}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.process_time()
            way()
            taken[name].append(time.process_time() - started)
    plain = taken["the model's own"]
    print(f"\n{runtime}, {sentences} sentences: {1e3 * statistics.median(plain):.1f} ms of one core")
    for name, seconds in taken.items():
        ratio = statistics.median(one / other for one, other in zip(seconds, plain, strict=True))
        print(f"  {name:24} {ratio:.2f} of its time")


def own(engine: StepwiseEngine, source: torch.Tensor) -> object:
    return beam_search(engine, source, beam=BEAM, max_length=MOST, min_length=MOST)
