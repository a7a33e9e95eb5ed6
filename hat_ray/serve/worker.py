"""What translates: a model, and the batches of texts that wait for it. A replica of the service is one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from hat_ray.corpus.protection.masking import Protection
from hat_ray.export.loaded import LoadedModel
from hat_ray.export.stream import read_glossary, translate_group
from hat_ray.front.front_end import FrontEnd
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.protocol import WholeEngine
from hat_ray.serve.batcher import Batcher
from hat_ray.serve.config import AppConfig
from hat_ray.serve.model_source import ModelSource
from hat_ray.serve.requests import OptionBounds, RequestReader, TextOptions

_SOON_CUT = 10_000
"""Characters that are cut into sentences so soon that others can wait for it."""


@dataclass(frozen=True)
class WorkerStatus:
    """The model that a worker serves, and how many sentences its last batches had."""

    model: dict[str, str]
    batch_sizes: list[int]


@dataclass(frozen=True)
class Translated:
    """The translations of each text of a request, the best first."""

    texts: list[list[str]]
    protected: int = 0
    """Sentences with parts that had to come through unchanged."""
    repaired: int = 0
    """Those of them in which such a part was missing, or stood twice."""


class FrontEnds:
    """What cuts the texts of a service into sentences, by what requests ask for."""

    def __init__(self, loaded: LoadedModel, config: AppConfig) -> None:
        """Raises HatRayError for a glossary that cannot be read, or that the model cannot keep."""
        terms = None if config.glossary is None else read_glossary(Path(config.glossary), "glossary: file")
        self._split, self._protect = config.split, config.protect
        self._plain, self._protecting = loaded.front_end(protect=False), loaded.front_end(terms=terms)

    @property
    def know_symbols(self) -> bool:
        """Report whether the model learned the symbols that protection needs."""
        return isinstance(self._protecting.step, Protection)

    def of(self, wanted: TextOptions) -> FrontEnd:
        """Return the one of a request, which counts what it protects."""
        split = self._split if wanted.split is None else wanted.split
        protect = self._protect if wanted.protect is None else wanted.protect
        front = self._protecting if protect else self._plain
        step = front.step.anew(wanted.terms) if isinstance(front.step, Protection) else front.step
        return replace(front, split=split, step=step)


class Worker:
    """Holds the model and translates. It belongs to the event loop that first uses it."""

    retries = 0
    """Requests that were asked again because a worker was lost."""

    def __init__(self, source: ModelSource, config: AppConfig) -> None:
        loaded = source.open(config.threads)
        self._model = source.public_facts(loaded)
        self._fronts = FrontEnds(loaded, config)
        self._reader = RequestReader(
            loaded.vocabularies.source,
            loaded.config.max_source_length,
            config.max_texts,
            config.max_body_bytes,
            _bounds(loaded, config),
            _languages(loaded),
            config.protect,
            config.max_terms,
            self._fronts.know_symbols,
        )
        self._batcher: Batcher[tuple[str, Decoding], list[str]] = Batcher(
            partial(translate_items, loaded),
            config.max_batch,
            config.wait_ms / 1e3,
            partial(torch.set_num_threads, config.threads),
        )

    @property
    def busy_s(self) -> float:
        """Return the seconds that the present batch has taken; 0 without one."""
        return self._batcher.busy_s

    async def translate(self, texts: Sequence[str], decoding: Decoding, around: TextOptions) -> Translated:
        """Return the translations of each text, the best first. Where one is asked for a text may have several lines.

        Sentences, not texts, become part of a batch, so that a long text does not hold up others.
        """
        if decoding.n_best > 1:
            return Translated(await self._batcher.run([(text, decoding) for text in texts]))
        paragraphs = [text.split("\n") for text in texts]
        lines = [line for each in paragraphs for line in each]
        front = self._fronts.of(around)
        if sum(map(len, lines)) > _SOON_CUT:
            cut = await asyncio.to_thread(front.cut, lines)
        else:
            cut = front.cut(lines)
        found = await self._batcher.run([(text, decoding) for text in cut.texts]) if cut.texts else []
        translations = iter(cut.joined([best for best, *_ in found]))
        joined = [["\n".join(next(translations) for _ in each)] for each in paragraphs]
        step = front.step
        return Translated(joined, step.protected, step.repaired) if isinstance(step, Protection) else Translated(joined)

    async def reader(self) -> RequestReader:
        """Return the reader of requests, which holds the vocabulary of the model's source."""
        return self._reader

    async def status(self) -> WorkerStatus:
        return WorkerStatus(self._model, list(self._batcher.sizes))


def _bounds(loaded: LoadedModel, config: AppConfig) -> OptionBounds:
    """Return what requests may ask for; no beam is wider than the vocabulary allows."""
    widest = max(1, loaded.engine.target_vocab_size // 2 - 1)
    seeds = not isinstance(loaded.engine, WholeEngine)  # CTranslate2 has one generator for all
    return OptionBounds(loaded.config.beam, min(config.max_beam, widest), config.max_length_factor, seeds)


def _languages(loaded: LoadedModel) -> tuple[str, str] | None:
    source, target = loaded.source_language, loaded.target_language
    return None if source is None or target is None else (source, target)


def translate_items(model: LoadedModel, items: Sequence[tuple[str, Decoding]]) -> list[list[str]]:
    """Return the translations of each text, the best first. Those with the same options are translated together."""
    rows: dict[Decoding, list[int]] = {}
    for row, (_, decoding) in enumerate(items):
        rows.setdefault(decoding, []).append(row)
    found: list[list[str]] = [[] for _ in items]
    for decoding, alike in rows.items():
        texts = [items[row][0] for row in alike]
        for row, each in zip(alike, _translated(model, texts, decoding), strict=True):
            found[row] = each
    return found


def _translated(model: LoadedModel, texts: list[str], decoding: Decoding) -> list[list[str]]:
    if decoding.n_best == 1:
        return [[text] for text in translate_group(model, texts, decoding=decoding)]
    return [[one.text for one in each] for each in model.hypotheses(texts, decoding)]
