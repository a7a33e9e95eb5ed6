"""Translate a training text with a teacher, block by block: what is translated is kept in the run, and never again."""

import hashlib
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Literal

import torch

from hat_ray.core.codec import write
from hat_ray.core.progress import Progress
from hat_ray.corpus.splits import training_text
from hat_ray.corpus.text.source import PairSource
from hat_ray.corpus.text.taught import Block, Taught, block_name, blocks, read_block
from hat_ray.errors import RunError
from hat_ray.evaluate.about import evaluation_of
from hat_ray.evaluate.distil import Translate
from hat_ray.export.export import open_export
from hat_ray.export.loaded import LoadedModel
from hat_ray.model.checkpoints.about import is_model_folder
from hat_ray.model.checkpoints.folder import read_about, read_model_folder, write_model_folder
from hat_ray.pipeline.places import Place, place_of
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.trained.ctranslate2_folder import CONFIG, is_ctranslate2_folder, open_ctranslate2_folder
from hat_ray.pipeline.trained.identity import identity_of
from hat_ray.pipeline.trained.teachers import open_teacher
from hat_ray.runtime.choice import fastest_engine
from hat_ray.runtime.protocol import RuntimeSettings
from hat_ray.runtime.standalone.translate import MANIFEST
from hat_ray.storage.copies import carry, name_of
from hat_ray.storage.folder import Folder

SETTING, TRANSLATIONS = "corpus.distil_from", "translations"
_WAVE = 256
"""Blocks that are handed out at once."""


@dataclass(frozen=True)
class TranslatingTeacher:
    """A teacher by its place; each process opens it by itself. It pickles."""

    place: str
    kind: Literal["model", "export", "ctranslate2"]
    beam: int | None
    identity: str
    """Hash of its content: a process opens another one anew."""

    def open(self) -> Translate:
        """Return a translator of lines, on one core."""
        changes = {} if self.beam is None else {"beam": self.beam}
        if self.kind == "export":
            return open_export(self.place, 1, **changes).translate
        if self.kind == "ctranslate2":
            return open_ctranslate2_folder(self.place, self.beam)
        opened = read_model_folder(Folder.at(self.place))
        settings = RuntimeSettings()
        name, engine = fastest_engine(opened.model, settings)
        search = evaluation_of(opened.about, self.place, **changes)
        return LoadedModel(engine, opened.vocabularies, search, name, settings.dtype).translate


def corpus_identity(context: Context) -> str | None:
    """Hash the teacher of the corpus with its beam; None: it has none."""
    config = context.recipe.corpus
    return f"{identity_of(config.distil_from, SETTING)} {config.distil_beam}" if config.distil_from else None


def teach_corpus(context: Context) -> Taught | None:
    """Translate the training text with the recipe's teacher; resume from the blocks that are there."""
    identity = corpus_identity(context)
    if identity is None:
        return None
    place = context.recipe.corpus.distil_from
    folder = context.run.folder.child(TRANSLATIONS, hashlib.sha256(identity.encode()).hexdigest()[:16])
    teacher, origin = _keep(place, context.recipe.corpus.distil_beam, identity, folder.child("teacher"))
    source = training_text(context.recipe.corpus)
    with context.progress("translating the training text") as progress:
        return _Translation(context, folder, teacher, progress).whole(
            source, Taught(folder, identity, origin, 0, 0, 0.0)
        )


def _keep(place: str, beam: int | None, identity: str, folder: Folder) -> tuple[TranslatingTeacher, str]:
    """Return a teacher that every worker reaches, and its origin: the run keeps it, as a model folder where it can."""
    if place_of(place) is Place.EXPORT:
        open_export(place)  # a mistake is reported before anything is kept
        carry(place, folder, MANIFEST)
        return TranslatingTeacher(folder.uri, "export", beam, identity), f"export {name_of(place)}"
    if is_ctranslate2_folder(place):
        open_ctranslate2_folder(place, beam)
        carry(place, folder, CONFIG)
        return TranslatingTeacher(folder.uri, "ctranslate2", beam, identity), f"CTranslate2 {name_of(place)}"
    if not (is_model_folder(folder) and identity in read_about(folder).notes):
        found = open_teacher(place, SETTING)
        if found.vocabularies is None:
            raise RunError(
                f"{SETTING}: {place} holds no sub-words: take it in with them by `hat-ray import model "
                f"{shlex.quote(place)} --out FOLDER`, and name that folder"
            )
        about = replace(found.about, notes=(identity,))
        write_model_folder(folder, found.model, found.vocabularies, about)
    return TranslatingTeacher(folder.uri, "model", beam, identity), read_about(folder).origin


@dataclass(frozen=True)
class _Translation:
    """A translation under way."""

    context: Context
    folder: Folder
    teacher: TranslatingTeacher
    progress: Progress

    def whole(self, source: PairSource, begun: Taught) -> Taught:
        """Translate all blocks of a text, wave by wave."""
        done, total = begun, sum(len(chunk) for part in range(source.num_parts) for chunk in source.chunks(part))
        all_blocks = self._blocks(source)
        while wave := list(islice(all_blocks, _WAVE)):
            missing = self._missing(wave, done.sentences + 1)
            pieces = [partial(translate_block, self.teacher, self.folder, *one) for one in missing.values()]
            if pieces:
                self.context.execution.do(pieces, self._shown(done.sentences, len(wave), len(pieces), total))
            for lines in wave:
                block = read_block(self.folder, lines)
                done = replace(
                    done,
                    sentences=done.sentences + len(lines),
                    empty=done.empty + block.targets.count(""),
                    core_seconds=done.core_seconds + block.core_seconds,
                )
            self.progress(done.sentences, total, {})
        return done

    def _missing(self, wave: Sequence[Sequence[str]], first: int) -> dict[str, tuple[Sequence[str], int]]:
        """Return the blocks that are still to be translated, by name, each with the number of its first line."""
        found: dict[str, tuple[Sequence[str], int]] = {}
        for lines in wave:
            if not self.folder.exists(block_name(lines)):
                found.setdefault(block_name(lines), (lines, first))
            first += len(lines)
        return found

    @staticmethod
    def _blocks(source: PairSource) -> Iterator[Sequence[str]]:
        for part in range(source.num_parts):
            for chunk in source.chunks(part):
                yield from blocks(chunk.source)

    def _shown(self, before: int, wave: int, missing: int, total: int) -> Progress:
        def show(done: int, _total: int, figures: object) -> None:
            self.progress(min(total, before + (wave - missing + done) * (total - before) // max(1, wave)), total, {})

        return show


def translate_block(teacher: TranslatingTeacher, folder: Folder, lines: Sequence[str], first: int) -> None:
    """Translate a block on one core and keep it, whole or not at all; `first` is the number of its first line."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine several threads that wait for one another take twenty times as long
    try:
        translate = _opened(teacher)
        started = time.perf_counter()
        found = translate(lines, first=first)
        targets = tuple(" ".join(text.replace("\r", "\n").split("\n")).strip() for text in found)
    finally:
        torch.set_num_threads(before)
    write(folder, block_name(lines), Block(targets, time.perf_counter() - started))


@lru_cache(maxsize=1)
def _opened(teacher: TranslatingTeacher) -> Translate:
    return teacher.open()
