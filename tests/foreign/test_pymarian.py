"""Marian itself translates a model that is written here as hat-ray does."""

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from hat_ray.corpus.batches import pad_sources
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.errors import CheckpointError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.translate import translate
from hat_ray.foreign.marian.folder import write_marian_folder
from hat_ray.foreign.open import open_foreign
from hat_ray.model.config import Activation, ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.storage.folder import Folder

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
WORDS = (*NUMBERS, "red", "green", "blue", "black", "white")
MARIAN = ModelConfig(
    activation="swish",
    positions="marian",
    start="zero",
    output_bias=True,
    layer_norm_eps=1e-6,
    unknown_words=False,
    dropout=0.0,
)
SIZES = Architecture(EncoderShape(48, (64,), (4,)), DecoderShape(48, (64,), (4,), (4,), (1,)), 48)


def pymarian() -> str:
    """Return the Python that has pymarian: that of `$HAT_RAY_PYMARIAN`, or this one."""
    python = os.environ.get("HAT_RAY_PYMARIAN") or (sys.executable if find_spec("pymarian") else "")
    if not python:
        pytest.skip("runs Marian: pip install pymarian==1.12.42, or set HAT_RAY_PYMARIAN to a Python that has it")
    return python


def lines(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, 9))) for _ in range(count)]


def translated(line: str) -> str:
    """Return the words in reverse, a word of its own after each colour."""
    return " ".join(word if word in NUMBERS else f"{word} tint" for word in reversed(line.split()))


def learned(vocabularies: Vocabularies, updates: int = 250) -> SubTransformer:
    torch.manual_seed(1)
    model = SubTransformer(SIZES, len(vocabularies.source), MARIAN, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for update in range(updates):
        batch = lines(24, update)
        source = pad_sources([vocabularies.source.encode(line) for line in batch])
        wanted = pad_sources([vocabularies.target.encode(translated(line))[::-1] for line in batch]).flip(1)
        fed = torch.cat([torch.full((24, 1), 2), wanted[:, :-1]], 1)
        loss = F.cross_entropy(model(source, fed).flatten(0, 1), wanted.flatten(), ignore_index=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def by_marian(python: str, folder: Path, text: list[str], beam: int, alone: bool = False) -> list[str]:
    """Return what Marian makes of lines, in batches or each `alone`."""
    code = "import sys, _pymarian; sys.exit(_pymarian.main(sys.argv[1:]))"
    command = [python, "-c", code, "decode", "-c", str(folder / "decoder.yml"), "--cpu-threads", "1", "--quiet"]
    command += ["-w", "200", "--beam-size", str(beam), "--mini-batch", "1" if alone else "16"]
    command += ["--maxi-batch", "1" if alone else "100"]
    done = subprocess.run(
        command, input="".join(f"{line}\n" for line in text), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.removesuffix("\n").split("\n")


@pytest.fixture(scope="module")
def vocabularies() -> Vocabularies:
    sample = [*lines(300, 7), *map(translated, lines(300, 8))]
    return Vocabularies.of_both(learn_vocabulary(sample, 60, byte_fallback=False))


@pytest.fixture(scope="module")
def model(vocabularies: Vocabularies) -> SubTransformer:
    pymarian()
    return learned(vocabularies)


@pytest.mark.slow
def test_marian_translates_what_was_written_as_hat_ray_does(
    tmp_path: Path, model: SubTransformer, vocabularies: Vocabularies
) -> None:
    assert write_marian_folder(Folder.at(tmp_path), model, vocabularies) == ()
    again = open_foreign(tmp_path / "model.npz")
    assert again.vocabularies.joint
    text, greedy = lines(200, 9999), EvaluateConfig(beam=1, max_length_factor=3)
    ours = translate(again.model, again.vocabularies, text, greedy)
    assert ours == translate(model, vocabularies, text, greedy)
    assert len(set(ours)) > 100
    assert ours == by_marian(pymarian(), tmp_path, text, 1)


@torch.inference_mode()
def marians_beam(model: SubTransformer, source: list[int], beam: int) -> list[int]:
    """Translate as Marian does: the beam narrows by each hypothesis that ends; scores by length, as here.

    Hypotheses that have not ended at three times the source's length count as they are, without an end.
    """
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    ended: list[tuple[float, list[int]]] = []
    width, longest = beam, 3 * len(source)
    for length in range(1, longest + 1):
        fed = torch.tensor([[2, *words] for _, words in live])
        logs = model(torch.tensor([source]).expand(len(live), -1), fed)[:, -1].log_softmax(-1)
        logs[:, 3] = -torch.inf
        scores = (logs + torch.tensor([score for score, _ in live])[:, None]).flatten()
        best = [divmod(int(place), logs.shape[1]) for place in scores.topk(width).indices]
        found = [(float(scores[row * logs.shape[1] + word]), [*live[row][1], word]) for row, word in best]
        ended += [(score / length, words) for score, words in found if words[-1] == 2 or length == longest]
        live = [(score, words) for score, words in found if words[-1] != 2]
        width = len(live)
        if not live:
            break
    best = max(ended)[1]
    return best[:-1] if best[-1] == 2 else best


@pytest.mark.slow
def test_only_marians_narrowing_beam_differs(tmp_path: Path, model: SubTransformer, vocabularies: Vocabularies) -> None:
    write_marian_folder(Folder.at(tmp_path), model, vocabularies)
    text = lines(60, 9999)
    sources = [vocabularies.source.encode(line) for line in text]
    narrowing = [vocabularies.target.decode(marians_beam(model, source, 4)) for source in sources]
    assert narrowing == by_marian(pymarian(), tmp_path, text, 4)
    ours = translate(model, vocabularies, text, EvaluateConfig(beam=4, max_length_factor=3))
    assert 45 <= sum(a == b for a, b in zip(ours, narrowing, strict=True)) < 60


def disturb(model: SubTransformer) -> None:
    """Make all weights differ, norms' and biases too, so that translations do."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.15 * torch.randn(weight.shape, generator=draw))


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["swish", "relu", "gelu"])
def test_layers_of_attention_are_marians(tmp_path: Path, vocabularies: Vocabularies, activation: Activation) -> None:
    decoder = DecoderShape(48, (96, 96), (4, 4), (4, 4), (1, 1))
    shape = Architecture(EncoderShape(48, (64, 64), (4, 4)), decoder, 48)
    model = SubTransformer(shape, len(vocabularies.source), MARIAN.model_copy(update={"activation": activation}))
    disturb(model)
    write_marian_folder(Folder.at(tmp_path), model.eval(), vocabularies)
    text = lines(40, 9999)
    ours = translate(model, vocabularies, text, EvaluateConfig(beam=1, max_length_factor=3))
    theirs = by_marian(pymarian(), tmp_path, text, 1)
    assert len(set(ours)) > 15
    assert all(one.startswith(other) or other.startswith(one) for one, other in zip(ours, theirs, strict=True))


def test_what_marian_decodes_otherwise_than_it_trains_is_not_written(
    tmp_path: Path, vocabularies: Vocabularies
) -> None:
    model = SubTransformer(SIZES, len(vocabularies.source), MARIAN.model_copy(update={"normalize_before": True}))
    with pytest.raises(CheckpointError, match=r"Marian 1\.12 decodes this model otherwise than it was trained"):
        write_marian_folder(Folder.at(tmp_path), model, vocabularies)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("before", [False, True], ids=["post-norm", "pre-norm"])
def test_marians_ssru_decoder_is_ours(tmp_path: Path, vocabularies: Vocabularies, before: bool) -> None:
    """Random weights end no sentence: of two translations, each cut at its own limit, the shorter begins the other."""
    decoder = DecoderShape(48, (64, 64), (4, 4), (4, 4), (1, 1))
    shape = Architecture(SIZES.encoder, decoder, 48, (("decoder_cells", ("ssru", "ssru")),))
    model = SubTransformer(shape, len(vocabularies.source), MARIAN.model_copy(update={"normalize_before": before}))
    disturb(model)
    write_marian_folder(Folder.at(tmp_path), model.eval(), vocabularies)
    again = open_foreign(tmp_path / "model.npz")
    assert again.model.holds == shape
    text = lines(40, 9999)
    ours = translate(again.model, again.vocabularies, text, EvaluateConfig(beam=1, max_length_factor=3))
    theirs = by_marian(pymarian(), tmp_path, text, 1)
    assert len(set(ours)) > 15
    assert all(one.startswith(other) or other.startswith(one) for one, other in zip(ours, theirs, strict=True))
