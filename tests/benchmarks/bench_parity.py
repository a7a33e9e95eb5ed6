"""Every runtime translates the test set of a trained model (`trained.py` says how to name one): what differs, and why.

In fp32 all must find what PyTorch finds. Where one does not, both translations are judged by the model itself: a
difference of their scores within `NEAR_TIE` nats a token is a tie that rounding decides, and is listed; more fails.
int8 may lose 0.3 BLEU; bf16 is told only. Sentences a second are no comparison here: see `bench_translate.py`.
"""

import importlib.util
import tempfile
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from hat_ray.corpus.batches import pad_sources
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary import EOS
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import scored_text
from hat_ray.evaluate.scoring import score_text
from hat_ray.evaluate.translate import translate_tokens
from hat_ray.export.export import SEARCH
from hat_ray.export.folder import write_files, write_manifest
from hat_ray.export.parity import agreement
from hat_ray.latency.timing.process import timing_state
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.build import on_runtime
from hat_ray.runtime.capability import unsupported
from hat_ray.runtime.ctranslate2 import why_not_expressible
from hat_ray.runtime.names import DTYPES
from hat_ray.runtime.standalone import engine_ctranslate2 as ct2_loader
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
                on_runtime(deepcopy(model), runtime, dtype), corpus.vocabulary, sources, config
            )
            for runtime, dtypes in DTYPES.items()
            for dtype in dtypes
            if not unsupported(runtime, dtype)
        }
        found |= _ct2(model, corpus, list(sources), config)
    expected = found["eager fp32"]
    encoded = corpus.vocabulary.encode_lines(list(sources))
    bleu = {}
    print(f"\n{len(sources)} sentences, beam {config.beam}")
    for name, theirs in found.items():
        texts = [corpus.vocabulary.decode(tokens) for tokens in theirs]
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


def _ct2(model: SubTransformer, corpus: Corpus, sources: list[str], config: EvaluateConfig) -> dict[str, Tokens]:
    if not importlib.util.find_spec("ctranslate2") or why_not_expressible(model.architecture):
        return {}
    settings = {name: getattr(config, name) for name in SEARCH}
    found = {}
    for dtype in ("fp32", "int8"):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            facts = write_files(place, model, corpus.vocabulary, dtype, "ctranslate2")  # type: ignore[arg-type]
            write_manifest(place, model, facts, settings, {})
            served = ct2_loader.Translator(place)
            found[f"CTranslate2 {dtype}"] = [tuple(each) for each in served.translate_tokens(sources, **settings)]
    return found


@torch.inference_mode()
def _score(model: SubTransformer, source: list[int], target: tuple[int, ...], config: EvaluateConfig) -> float:
    """Return what beam search orders by: log-probability over length."""
    whole = torch.tensor([[*target, EOS]])
    fed = torch.tensor([[EOS, *target]])
    cut = [*source[:-1][: config.max_source_length - 1], EOS]
    logarithms = model(pad_sources([cut]), fed).log_softmax(-1).gather(2, whole[:, :, None])
    return float(logarithms.sum()) / (len(target) + 1) ** config.length_penalty
