"""What short-lists bring and cost: BLEU and speed by the number of target words for each source word.

The first case needs a trained model (`trained.py` says how to name one) and translates its test set, all of it for
BLEU, the first `HAT_RAY_SPEED_SENTENCES` (100) for speed, where all lists take turns and each round gives one ratio to
translating without. The second needs none: the shape of Transformer-base, 32,768 words, lists of random words.
"""

import os
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import scored_text
from hat_ray.evaluate.scoring import score_text
from hat_ray.evaluate.translate import translate
from hat_ray.latency.timing.engines import timing_state, translation
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.engine import OnnxEngine
from hat_ray.runtime.onnx.graph import GraphDtype
from hat_ray.runtime.shortlist import ShortLists, build_short_lists
from tests.benchmarks.bench_runtime import BASE, VOCAB, Contestant, rounds
from tests.benchmarks.trained import trained_model

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
DTYPES: tuple[GraphDtype, ...] = ("fp32", "int8")
LISTS = [(10, 200), (10, 1000), (50, 200), (50, 1000), (200, 1000)]
"""Partners of each source word, and words that are on every list (1,000 is what `--short-list` takes)."""
ONE_BY_ONE = 1  # token budget of a batch in which every sentence is alone


@pytest.mark.parametrize("dtype", DTYPES)
def test_bleu_and_speed_on_a_trained_model(dtype: GraphDtype) -> None:
    model, corpus = trained_model()
    config = EvaluateConfig()
    sources, references = scored_text(corpus, config)
    few = sources[: int(os.environ.get("HAT_RAY_SPEED_SENTENCES", "100"))]
    with timing_state(1):
        served = {"no lists": OnnxEngine.of(model, dtype)}
        sizes = {"no lists": float(corpus.vocabularies.sizes[0])}
        for (partners, frequent), lists in zip(LISTS, _lists(corpus), strict=True):
            name = f"{partners} partners, {frequent} frequent"
            served[name] = OnnxEngine.of(model, dtype, lists=lists)
            sizes[name] = _mean_length(lists, corpus, sources)
        texts = {name: translate(each, corpus.vocabularies, sources, config) for name, each in served.items()}
        alone = _paired(served, corpus, few, config.model_copy(update={"batch_tokens": ONE_BY_ONE}))
        together = _paired(served, corpus, few, config)
    print(
        f"\nonnx {dtype}, {len(sources)} sentences for BLEU, {len(few)} in {len(alone)} rounds in turns for speed, "
        f"beam {config.beam}, one thread, load {os.getloadavg()[0]:.1f}"
    )
    print(f"  {'':28} words a sentence   BLEU  the same  speed one by one       in batches")
    for index, (name, text) in enumerate(texts.items()):
        bleu = score_text(text, [references], tokenizer=config.tokenizer, chrf=False).bleu
        same = sum(a == b for a, b in zip(text, texts["no lists"], strict=True))
        speeds = "  ".join(_ratio(times, index) for times in (alone, together))
        print(f"  {name:28} {sizes[name]:16.0f} {bleu:6.2f} {same:9}  {speeds}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_speed_at_the_shape_of_transformer_base(dtype: GraphDtype) -> None:
    model = SubTransformer(BASE, VOCAB, ModelConfig()).eval()
    draw = np.random.default_rng(0)
    with timing_state(1), torch.inference_mode():
        for beam in (1, 5):
            workload = Workload(beam=beam, vocab_size=VOCAB)
            served = {"no lists": OnnxEngine.of(model, dtype)}
            for partners, frequent in ((10, 1000), (50, 1000), (100, 4000)):
                words = np.sort(draw.choice(VOCAB, frequent, replace=False))
                lists = ShortLists(words, draw.integers(4, VOCAB, (VOCAB, partners)))
                served[f"{partners} partners, {frequent} frequent"] = OnnxEngine.of(model, dtype, lists=lists)
            contestants = [
                Contestant(name, translation(each, workload), translation(each, workload), 0.0)
                for name, each in served.items()
            ]
            times = rounds(contestants, 12, 40.0).sum(2)
            print(f"\nTransformer-base, onnx {dtype}, beam {beam}, {VOCAB} words, load {os.getloadavg()[0]:.1f}")
            for index, name in enumerate(served):
                print(f"  {name:28} {np.median(times[:, index]):8.1f} ms  {_ratio(times, index)}")


def _lists(corpus: Corpus) -> list[ShortLists]:
    pairs = [corpus.train.sentence(row) for row in range(len(corpus.train))]
    return [build_short_lists(pairs, corpus.vocabularies.sizes, partners, frequent) for partners, frequent in LISTS]


def _mean_length(lists: ShortLists, corpus: Corpus, sources: Sequence[str]) -> float:
    """Return how many words are on a sentence's list."""
    found = [
        np.union1d(lists.frequent, lists.partners[np.unique(tokens)])
        for tokens in corpus.vocabularies.source.encode_lines(list(sources))
    ]
    return float(np.mean([(words >= 0).sum() for words in found]))


def _paired(
    served: dict[str, OnnxEngine], corpus: Corpus, sources: Sequence[str], config: EvaluateConfig
) -> np.ndarray:
    """Return seconds (rounds, models)."""
    times = []
    for _ in range(3):
        line = []
        for model in served.values():
            began = time.perf_counter()
            translate(model, corpus.vocabularies, sources, config)
            line.append(time.perf_counter() - began)
        times.append(line)
    return np.array(times)


def _ratio(times: np.ndarray, index: int) -> str:
    ratios = times[:, 0] / times[:, index]
    return f"{np.median(ratios):.2f} ({ratios.min():.2f}-{ratios.max():.2f})"
