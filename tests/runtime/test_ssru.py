"""Decoders with SSRU layers on every runtime against the eager model, and in an exported folder."""

import dataclasses
from pathlib import Path

import pytest
import torch

from hat_ray.corpus.config import CorpusConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.translate import translate
from hat_ray.model.beam import beam_search
from hat_ray.runtime.protocol import RUNTIMES, Bounds, RuntimeSettings, load_engine, why_unsupported
from hat_ray.runtime.space import RuntimeSpaceConfig
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from tests.exporting import export_model
from tests.runtime.models import ARCHITECTURES, VOCAB, a_model, sources
from tests.runtime.test_export import alone

SHAPE = ARCHITECTURES["every layer its own, reach 3 1 2"]
CELLS = {
    "mixed": ("attention", "ssru", "ssru"),
    "mixed, SSRU first": ("ssru", "attention", "ssru"),
    "SSRU alone": ("ssru", "ssru", "ssru"),
}


def with_cells(*cells: str) -> Architecture:
    return dataclasses.replace(SHAPE, extra=(("decoder_cells", cells),))


def executing() -> list[str]:
    """Return the runtimes of this machine that execute an SSRU."""
    one = with_cells(*CELLS["mixed"])
    return [name for name in RUNTIMES.own_names if why_unsupported(name, RuntimeSettings(), one) is None]


def test_who_executes_it_and_how_the_others_refuse():
    assert {"eager", "onnx"} <= {*executing()} <= {"eager", "packed", "onnx"}
    if why_unsupported("ctranslate2", RuntimeSettings()) is None:  # an extra
        reason = why_unsupported("ctranslate2", RuntimeSettings(), with_cells(*CELLS["mixed"]))
        assert reason == "runtime ctranslate2 does not read the dimension decoder_cells: leave it out of the space"
    space = RuntimeSpaceConfig.model_validate(
        {"decoder_cells": ["attention", "ssru"], "runtime": "ctranslate2"}
    ).build()
    assert "decoder_cells" not in space.choices


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("before", [False, True], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("runtime", [name for name in executing() if name != "eager"])
def test_every_step_has_the_logits_of_the_whole_sentence(runtime: str, before: bool, cells: tuple[str, ...]):
    """Past the cache's first capacity, with beams that change places and sentences that end."""
    model = a_model(with_cells(*cells), normalize_before=before)
    engine = load_engine(a_model(with_cells(*cells), normalize_before=before), runtime, RuntimeSettings())
    source, draw = sources(3, 8), torch.Generator().manual_seed(7)
    beam, length, kept = 2, 40, torch.tensor([0, 2])
    with torch.inference_mode():
        state, history = engine.start(source, beam), torch.full((6, 1), 2)
        for step in range(length):
            made = torch.as_tensor(engine.step(history[:, -1], state)).clone()
            if step in (3, length - 1):
                whole = model(source.repeat_interleave(beam, 0), history)[:, -1]
                torch.testing.assert_close(made, whole, rtol=0, atol=2e-4)
            rows = torch.tensor([1, 0, 2, 2, 5, 4][: len(history)])
            if step == 10:
                state.keep(kept)
                source, history = source[kept], history.view(3, beam, -1)[kept].flatten(0, 1)
                rows = torch.tensor([0, 0, 3, 2])
            elif step > 10:
                rows = torch.tensor([1, 0, 2, 3])
            state.reorder(rows)
            words = torch.randint(4, VOCAB, (len(rows), 1), generator=draw)
            history = torch.cat([history[rows], words], 1)


def test_int8_translates_almost_alike():
    model = a_model(with_cells(*CELLS["mixed"]))
    engine = load_engine(a_model(with_cells(*CELLS["mixed"])), "onnx", RuntimeSettings(dtype="int8"))
    source = sources(4, 9)
    found, other = (beam_search(each, source, beam=3, max_length=12) for each in (model, engine))
    for ours, theirs in zip(found, other, strict=True):
        assert theirs[0].score == pytest.approx(ours[0].score, abs=0.1)


def test_an_export_translates_alike_without_torch(tmp_path: Path):
    config = EvaluateConfig(beam=2, sentences=8, max_length_factor=0, max_length_extra=15, max_source_length=60)
    toy = ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=12)
    prepare(CorpusConfig(toy=toy, vocab_size=300), Folder.at(tmp_path / "corpus"), seed=1)
    corpus = Corpus.load(Folder.at(tmp_path / "corpus"))
    model = a_model(with_cells(*CELLS["SSRU alone"]), vocab=corpus.vocabularies.sizes[0])
    export_model(model, corpus, tmp_path / "out", "fp32", config, Bounds(0, 100, 1e-3))
    lines = list(corpus.test.source_text or ())[:8]
    done = alone(tmp_path / "out", "\n".join(lines) + "\n", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == translate(model, corpus.vocabularies, lines, config)
