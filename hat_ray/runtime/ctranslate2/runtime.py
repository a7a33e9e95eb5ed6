"""CTranslate2 on the CPU: a library with a beam search of its own.

Decisions
- A model is written into a temporary folder and read back: the library takes models in no other form. What a timing
  sees is then what an export holds.
- Words are their own ids, spelled as text, where a model has no vocabulary: the library reads nothing else.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hat_ray.corpus.vocabulary import EOS, UNK, Vocabularies
from hat_ray.errors import ExportError, HatRayError
from hat_ray.model.config import ModelConfig
from hat_ray.model.hypotheses.found import Found, Task
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.protocol import BeamSettings, Engine
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.base import BaseRuntime
from hat_ray.runtime.ctranslate2.spec import (
    COMPUTE_TYPES,
    open_translator,
    own_threads,
    supported_compute_types,
    why_not_expressible,
    write_model,
)
from hat_ray.runtime.difference import word_error
from hat_ray.runtime.protocol import RUNTIMES, Bounds, ExportFacts, Isa, OpenedExport, RuntimeSettings
from hat_ray.runtime.standalone import engine_ctranslate2 as loader
from hat_ray.space.architecture import Architecture
from hat_ray.storage.temporary import temporary_folder


class CTranslate2Engine:
    """A model that is ready to translate; a `WholeEngine`."""

    def __init__(
        self,
        translator: Any,
        source: Sequence[str],
        target: Sequence[str],
        max_positions: int,
        unknown_words: bool = True,
    ) -> None:
        """`translator` is CTranslate2's own; `source` and `target` are its words in the order of their ids."""
        self._unknown_words = unknown_words
        self._translator, self._source, self._target, self._max_positions = translator, source, target, max_positions
        self._ids = {piece: token for token, piece in enumerate(target)}

    @property
    def target_vocab_size(self) -> int:
        return len(self._target)

    @property
    def max_positions(self) -> int:
        """Longest sentence in tokens."""
        return self._max_positions

    def translate(
        self, sources: Sequence[Sequence[int]], search: BeamSettings, exact_length: int | None = None
    ) -> list[list[int]]:
        """Return the best translation of each source as tokens, without the end of sentence."""
        try:
            found = loader.translate_within(
                self._translator,
                [_words(source, self._source) for source in sources],
                [exact_length] * len(sources) if exact_length else search.limits(len(sources)),
                beam_size=search.beam,
                length_penalty=search.length_penalty,
                min_decoding_length=exact_length or 1,
                max_input_length=0,
                disable_unk=not self._unknown_words,
            )
        except (RuntimeError, ValueError) as error:
            raise ExportError(
                f"CTranslate2 cannot translate ({' '.join(str(error).split())[:300]}): export the model again"
            ) from error
        return [[self._ids.get(piece, UNK) for piece in best] for best in found]

    def find(self, task: Task, wanted: Decoding) -> list[list[Found]]:
        """Return the hypotheses of each source, best first; raise HatRayError for what the library cannot do."""
        words = self._source, self._target
        try:
            return loader.find_by_ctranslate2(self._translator, words, task, wanted, self._unknown_words)
        except ValueError as error:
            raise HatRayError(str(error)) from error

    def log_probabilities(self, source: Sequence[int], target: Sequence[int]) -> list[float]:
        """Return the log-probability of each word of a translation, its end of sentence included."""
        [scored] = self._translator.score_batch(
            [_words(source, self._source)], [_words(target, self._target)], max_input_length=0
        )
        return [float(value) for value in scored.log_probs]


class CTranslate2Exporter:
    """Writes and opens CTranslate2's own folders, with a vocabulary and a loader beside its files."""

    kind = loader.KIND
    bounds: Mapping[str, Bounds] = {"fp32": Bounds(0.98, 0.3, 1e-3), "int8": Bounds(None, 0.3)}
    """The library's own beam search ends, and breaks ties, a little differently."""

    def write(
        self, model: SubTransformer, vocabularies: Vocabularies, folder: Path, settings: RuntimeSettings
    ) -> ExportFacts:
        """Write the model and its vocabulary."""
        source, target = (loader.distinct(side.pieces()) for side in (vocabularies.source, vocabularies.target))
        write_model(model, source, target, folder, settings.dtype)
        own: dict[str, Any] = {"compute_type": COMPUTE_TYPES[settings.dtype], "end": target[EOS]}
        if not model.config.unknown_words:
            own["unknown_words"] = False
        return ExportFacts({"kind": self.kind, "format": loader.FORMAT, **own}, Path(loader.__file__))

    def open(self, folder: Path, threads: int = 1) -> OpenedExport:
        """Check and open an exported folder; raise ValueError, in one line, where it is damaged."""
        with own_threads():
            translator = loader.ExportedTranslator(folder, threads)
        source, target = (loader.distinct(side.pieces()) for side in (translator.source, translator.target))
        own = translator.manifest["max_positions"], translator.manifest.get("unknown_words", True)
        engine = CTranslate2Engine(translator.engine, source, target, *own)
        return OpenedExport(translator, engine)

    def difference(self, model: SubTransformer, engine: Engine, source: Sequence[int], target: Sequence[int]) -> float:
        """Return the largest difference of two words' log-probabilities."""
        assert isinstance(engine, CTranslate2Engine)
        return word_error(model, engine.log_probabilities, source, target)


class CTranslate2Runtime(BaseRuntime):
    """CTranslate2, fp32 or int8, where it can express the architecture."""

    name, facts, exporter = "ctranslate2", RUNTIMES.facts("ctranslate2"), CTranslate2Exporter()

    def unsupported(
        self,
        architecture: Architecture | None,
        settings: RuntimeSettings,
        isa: Isa | None = None,
        config: ModelConfig | None = None,
    ) -> str | None:
        """Return the rule that is broken: the settings', this processor's, or the architecture's."""
        if reason := super().unsupported(architecture, settings, isa, config):
            return reason
        kind = COMPUTE_TYPES[settings.dtype]
        if isa is None and kind not in supported_compute_types():
            return f"CTranslate2 does not compute in {kind} on this processor: take another dtype, or runtime onnx"
        if architecture is None or (reason := why_not_expressible(architecture)) is None:
            return None
        return f"runtime ctranslate2 cannot express architecture {architecture.id}: {reason}: take runtime onnx"

    def load(self, model: SubTransformer, settings: RuntimeSettings) -> CTranslate2Engine:
        """Let CTranslate2 read a model from a folder that is deleted at once."""
        words = _ids_as_pieces(model.source_vocab_size), _ids_as_pieces(model.target_vocab_size)
        with temporary_folder("ct2") as folder:
            self.store(model, folder, settings)
            kind = COMPUTE_TYPES[settings.dtype]
            translator = open_translator(str(folder), kind, settings.threads)
        return CTranslate2Engine(translator, *words, model.max_positions, model.config.unknown_words)

    def store(self, model: SubTransformer, folder: Path, settings: RuntimeSettings) -> None:
        """Write a model whose words are their own ids."""
        words = _ids_as_pieces(model.source_vocab_size), _ids_as_pieces(model.target_vocab_size)
        write_model(model, *words, folder, settings.dtype)

    def versions(self) -> dict[str, str]:
        """Return the versions of PyTorch, which builds the weights, and CTranslate2."""
        return {**super().versions(), "ctranslate2": version("ctranslate2")}

    def arithmetic(self, dtype: str, isa: Isa | None = None) -> str:
        """Name the dtype: CTranslate2 chooses its instructions itself."""
        return f"{dtype} by CTranslate2's choice of instructions"


def _words(tokens: Sequence[int], pieces: Sequence[str]) -> list[str]:
    return [pieces[token] for token in tokens]


def _ids_as_pieces(size: int) -> list[str]:
    return ["<s>", "<pad>", "</s>", "<unk>", *map(str, range(4, size))]


CTRANSLATE2 = CTranslate2Runtime()
