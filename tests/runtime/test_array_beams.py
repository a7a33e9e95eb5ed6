"""Beam search on arrays finds what PyTorch's finds, and what one without caches finds, whenever sentences end."""

import numpy as np
import pytest
import torch

from hat_ray.model.beam import beam_search
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.onnx.engine import OnnxEngine
from hat_ray.runtime.standalone import beams
from tests.runtime.models import ARCHITECTURES, a_model, sources

END, PAD = 2, 1


def ending_model(name: str, seed: int, bias: float) -> SubTransformer:
    """Return a model with random weights that ends its sentences sooner or later."""
    model = a_model(ARCHITECTURES[name], seed=seed, output_bias=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.0)
        model.decoder.output_bias[END] = bias
    return model


@torch.inference_mode()
def one_by_one(model: SubTransformer, source: list[int], beam: int, penalty: float, most: int) -> list[int]:
    """Translate one sentence with the rules as they are written: every hypothesis anew from its first word."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for position in range(most + 1):
        found = []
        for score, words in live:
            logits = model(torch.tensor([source]), torch.tensor([[END, *words]]))[0, -1]
            logs = logits.log_softmax(-1).numpy()
            for word, value in enumerate(logs):
                if word != PAD and (word == END if position == most else not (word == END and position == 0)):
                    found.append((score + float(value), [*words, word]))
        found = sorted(found, key=lambda each: -each[0])[: 2 * beam]
        for score, words in found[:beam]:
            if words[-1] == END and len(finished) < beam:
                finished.append((score / (position + 1) ** penalty, words[:-1]))
        if len(finished) >= beam:
            break
        live = [one for one in found if one[1][-1] != END][:beam]
    return max(finished, key=lambda each: each[0])[1]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_finds_what_pytorchs_search_finds(name: str) -> None:
    lengths = set()
    for seed, bias in enumerate((0.0, 2.0, 4.0)):
        model = ending_model(name, seed, bias)
        engine, source = OnnxEngine.of(model, "fp32"), sources(9, 12, seed=seed)
        limits = [3 + row for row in range(9)]
        for beam, penalty in ((1, 1.0), (2, 0.0), (5, 1.0)):
            settings = {"beam": beam, "length_penalty": penalty, "max_length": limits}
            expected = [best[0].tokens[:-1] for best in beam_search(engine, source, **settings)]
            found = beams.beam_search(engine.graphs, source.numpy(), **settings, pad=PAD, eos=END)
            assert [tuple(tokens) for tokens in found] == expected
            lengths |= {len(tokens) for tokens in found}
            for row, tokens in enumerate(found[:2]):  # a sentence's translation does not depend on the others
                alone = source[row : row + 1].numpy()
                settings = {"beam": beam, "length_penalty": penalty, "max_length": limits[row]}
                assert beams.beam_search(engine.graphs, alone, **settings, pad=PAD, eos=END) == [tokens]
    assert len(lengths) > 4


@pytest.mark.parametrize("beam", [1, 3])
def test_it_finds_what_a_search_without_caches_finds(beam: int) -> None:
    ends = set()
    for seed in range(4):
        model = ending_model("one layer each", seed, 4.0 + 8 * seed)
        source = sources(3, 6, seed=seed)
        engine = OnnxEngine.of(model, "fp32")
        found = beams.beam_search(
            engine.graphs, source.numpy(), beam=beam, length_penalty=0.7, max_length=6, pad=PAD, eos=END
        )
        for row, tokens in zip(source.tolist(), found, strict=True):
            assert tokens == one_by_one(model, row, beam, 0.7, 6)
            ends.add(len(tokens))
    assert len(ends) > 1


def test_nothing_to_translate_is_nothing() -> None:
    engine = OnnxEngine.of(a_model(ARCHITECTURES["one layer each"]), "fp32")
    none = np.zeros((0, 3), np.int64)
    found = beams.beam_search(engine.graphs, none, beam=2, length_penalty=1.0, max_length=[], pad=PAD, eos=END)
    assert found == []
