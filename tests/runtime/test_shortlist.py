"""Short-lists: what is on them, that they bound what may follow, and that with all words on them nothing changes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.errors import ExportError, HatRayError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.export.export import open_export
from hat_ray.model.beam import beam_search
from hat_ray.model.protocol import top_tokens
from hat_ray.runtime.onnx.engine import OnnxEngine
from hat_ray.runtime.onnx.graph import GraphDtype
from hat_ray.runtime.protocol import Bounds, RuntimeSettings, load_engine
from hat_ray.runtime.shortlist import ShortLists, build_short_lists
from hat_ray.runtime.standalone import engine_onnx as loader
from hat_ray.runtime.standalone import graphs_onnx
from hat_ray.storage.folder import Folder
from tests.exporting import export_model
from tests.model.rounding import assert_same_but_for_rounding
from tests.runtime.models import ARCHITECTURES, VOCAB, a_model, sources

SETTINGS = {"beam": 3, "length_penalty": 1.0, "max_length": 12}
FEW = ShortLists(np.arange(12), np.random.default_rng(0).integers(4, VOCAB, (VOCAB, 3)))


def test_partners_are_those_of_the_highest_dice_index() -> None:
    draw = np.random.default_rng(1)
    pairs = [(draw.integers(4, 20, 5).tolist(), draw.integers(4, 20, 6).tolist()) for _ in range(200)]
    lists = build_short_lists(iter(pairs), (20, 20), 4, frequent=5)
    both: Counter[tuple[int, int]] = Counter()
    left, right = Counter[int](), Counter[int]()
    for source, target in pairs:
        left.update(set(source))
        right.update(set(target))
        both.update((s, t) for s in set(source) for t in set(target))
    for word in range(4, 20):
        dice = {t: 2 * both[word, t] / (left[word] + right[t]) for t in range(4, 20) if both[word, t]}
        best = sorted(dice.values(), reverse=True)[:4]
        np.testing.assert_allclose([dice[t] for t in lists.partners[word]], best, rtol=1e-6)
    assert (lists.partners[:4] == -1).all()
    assert set(lists.frequent) == {0, 1, 2, 3} | {t for t, _ in right.most_common(5)} or len(lists.frequent) == 9


def test_without_pairs_there_are_no_lists() -> None:
    with pytest.raises(ExportError, match="there is none"):
        build_short_lists([], (20, 20), 4)


def test_a_sentence_may_say_what_is_on_its_own_list_and_nothing_else(tmp_path: Path) -> None:
    FEW.save(tmp_path / "lists.npz")
    source = sources(3, 7).numpy()
    words, allowed = graphs_onnx.ShortLists.load(tmp_path / "lists.npz", VOCAB, VOCAB).of(source)
    for row, line in enumerate(source):
        own = sorted({*range(12), *FEW.partners[line].ravel().tolist()})
        assert words[allowed[row, 0] == 0].tolist() == own
        assert set(np.unique(allowed)) == {0.0, np.float32(graphs_onnx.HIDDEN)}


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_with_every_word_on_the_lists_nothing_changes(dtype: GraphDtype, biased: bool) -> None:
    model, source = a_model(ARCHITECTURES["every layer its own, reach 3 1 2"], output_bias=biased), sources(4, 9)
    everything = ShortLists(np.arange(VOCAB), FEW.partners)
    short, plain = (OnnxEngine.of(model, dtype, lists=lists) for lists in (everything, None))
    tolerance = 1e-5 if dtype == "fp32" else 0.05  # the output projection is not multiplied in bytes
    states = [each.start(source, 2) for each in (short, plain)]
    tokens = torch.arange(8)
    found, expected = (each.step(tokens, state) for each, state in zip((short, plain), states, strict=True))
    assert float((found - expected).abs().max() / expected.abs().max()) < tolerance
    if dtype == "fp32":
        both = [[best[0].tokens for best in beam_search(each, source, **SETTINGS)] for each in (short, plain)]
        assert both[0] == both[1]


def test_what_follows_is_listed_and_does_not_depend_on_the_batch() -> None:
    model, source = a_model(ARCHITECTURES["one layer each"]), sources(4, 9)
    short = OnnxEngine.of(model, "fp32", lists=FEW)
    together = [best[0].tokens for best in beam_search(short, source, **SETTINGS)]
    alone = [beam_search(short, source[row : row + 1], **SETTINGS)[0][0].tokens for row in range(4)]
    assert together == alone
    for line, tokens in zip(source.tolist(), together, strict=True):
        assert set(tokens) <= {*range(12), *FEW.partners[line].ravel().tolist()}
    state, other = short.start(source, 1), OnnxEngine.of(model, "fp32").start(source, 1)
    best = short.best(torch.tensor([2, 2, 2, 2]), state, 4)
    logits = OnnxEngine.of(model, "fp32").step(torch.tensor([2, 2, 2, 2]), other)
    words, allowed = graphs_onnx.ShortLists(FEW.frequent, FEW.partners, VOCAB).of(source.numpy())
    logits[:, [word for word in range(VOCAB) if word not in words]] = -torch.inf
    logits[:, words] += torch.from_numpy(allowed[:, 0])
    assert_same_but_for_rounding(best.values, top_tokens(logits, 4).values)
    assert torch.equal(best.words, top_tokens(logits, 4).words)


def test_an_export_brings_its_lists(tmp_path: Path) -> None:
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=20)
    prepare(CorpusConfig(toy=toy, vocab_size=300), Folder.at(tmp_path / "corpus"), seed=1)
    corpus = Corpus.load(Folder.at(tmp_path / "corpus"))
    config = EvaluateConfig(beam=2, sentences=8, max_length_factor=0, max_length_extra=12)
    model = a_model(ARCHITECTURES["one layer each"], vocab=corpus.vocabularies.sizes[0])
    out = tmp_path / "out"
    made = export_model(model, corpus, out, "fp32", config, Bounds(0.0, 100.0, 1e-3), short_list=20)
    assert made.parity.logit_error < 1e-3
    lines = list(corpus.test.source_text or ())[:5]
    assert open_export(out).translate(lines) == loader.ExportedTranslator(out).translate(lines)


def test_lists_are_for_onnx() -> None:
    with pytest.raises(HatRayError, match="for runtime onnx, got eager"):
        load_engine(a_model(ARCHITECTURES["one layer each"]), "eager", RuntimeSettings(short_lists=FEW))
