"""Every runtime translates the test set of a trained model (`trained.py` says how to name one): what differs, and why.

In fp32 all must find what PyTorch finds. Where one does not, both translations are judged by the model itself: a
difference of their scores within `NEAR_TIE` nats a token is a tie that rounding decides, and is listed; more fails.
int8 may lose 0.3 BLEU; bf16 is told only. Sentences a second are no comparison here: see `bench_translate.py`.
"""

from copy import deepcopy

import pytest
import torch

from hat_ray.corpus.batches import pad_sources
from hat_ray.corpus.vocabulary import EOS
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import scored_text
from hat_ray.evaluate.scoring import score_text
from hat_ray.evaluate.translate import translate_tokens
from hat_ray.export.parity import agreement
from hat_ray.latency.timing.engines import timing_state
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, load_engine, why_unsupported
from tests.benchmarks.trained import trained_model

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
NEAR_TIE = 1e-4

Tokens = list[tuple[int, ...]]


def test_every_runtime_translates_alike() -> None:
    model, corpus = trained_model()
    config = EvaluateConfig()
    sources, references = scored_text(corpus, config)
    with timing_state(1):
        found = {
            f"{runtime} {dtype}": translate_tokens(
                load_engine(deepcopy(model), runtime, RuntimeSettings(dtype)), corpus.vocabularies, sources, config
            )
            for runtime in RUNTIMES.own_names
            for dtype in RUNTIMES.facts(runtime).dtypes
            if not why_unsupported(runtime, RuntimeSettings(dtype), model.architecture)
        }
    expected = found["eager fp32"]
    encoded = corpus.vocabularies.source.encode_lines(list(sources))
    bleu = {}
    print(f"\n{len(sources)} sentences, beam {config.beam}")
    for name, theirs in found.items():
        texts = [corpus.vocabularies.target.decode(tokens) for tokens in theirs]
        bleu[name] = score_text(texts, [references], tokenizer=config.tokenizer, chrf=False).bleu
        different = [row for row, (a, b) in enumerate(zip(expected, theirs, strict=True)) if a != b]
        same, common = len(sources) - len(different), 100 * agreement(expected, theirs)
        print(f"  {name:18} {same:5} the same, {common:.2f} % of tokens, BLEU {bleu[name]:.2f}")
        if name.endswith("fp32"):
            for row in different:
                gap = _score(model, encoded[row], expected[row], config) - _score(
                    model, encoded[row], theirs[row], config
                )
                print(f"    line {row + 1}: scores differ by {gap:.1e}: {texts[row]}")
                assert abs(gap) <= NEAR_TIE, "not a near-tie"
        if name.endswith("int8"):
            assert bleu["eager fp32"] - bleu[name] <= 0.3


@torch.inference_mode()
def _score(model: SubTransformer, source: list[int], target: tuple[int, ...], config: EvaluateConfig) -> float:
    """Return what beam search orders by: log-probability over length."""
    whole = torch.tensor([[*target, EOS]])
    fed = torch.tensor([[EOS, *target]])
    cut = [*source[:-1][: config.max_source_length - 1], EOS]
    logarithms = model(pad_sources([cut]), fed).log_softmax(-1).gather(2, whole[:, :, None])
    return float(logarithms.sum()) / (len(target) + 1) ** config.length_penalty
