"""A SuperTransformer that HAT trained, with its data-bin, as a run folder: `hat-ray run` resumes with latencies.

Decisions
- The stage `corpus` is done as always, from the data-bin. The stage `supernet` takes the checkpoint's weights instead
  of training; its result holds the validation loss of the largest and the smallest architecture, measured here.
- Settings come from the checkpoint's own arguments, and the choices from HAT's YAML where one is given.
- All that can be wrong with the files is found before the run folder is made; what the corpus stage finds leaves none.
"""

import logging
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hat_ray.core.lease import FOLDER as LEASE
from hat_ray.core.lease import InUseError, held
from hat_ray.core.progress import ProgressFactory
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.fairseq.data_bin import DataBin, language_pair
from hat_ray.errors import CheckpointError, HatRayError, RunError, SpaceError
from hat_ray.model.checkpoints.fairseq import HatCheckpoint, hat_smallest, load_hat_checkpoint
from hat_ray.model.checkpoints.native import save_model
from hat_ray.model.config import ModelConfig
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.pipeline.execution import LocalExecution
from hat_ray.pipeline.imports.hat_recipe import made_of, map_arch, map_space
from hat_ray.pipeline.imports.keys import DIRECT
from hat_ray.pipeline.imports.training import Ledger, map_training
from hat_ray.pipeline.run_folder import Run
from hat_ray.pipeline.stage import Context, Stage, no_progress_bars, run_stages
from hat_ray.pipeline.stages.corpus import CORPUS
from hat_ray.recipe import Recipe
from hat_ray.space.hat_yaml import read_space
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder
from hat_ray.storage.plain_file import read_text
from hat_ray.train.config import TrainConfig
from hat_ray.train.data import ValidationLoss
from hat_ray.train.job import SUPERNET
from hat_ray.train.state import TrainResult

log = logging.getLogger(__name__)

_SOURCE = "checkpoint"
"""Name of the checkpoint's arguments in messages."""
_TOO_FAR = 1.0
"""Bits a token beyond a uniform guess, or beyond the checkpoint's own loss, that other dictionaries or data explain."""
_NEAR = 0.01
"""Bits a token that other batches, or an average of checkpoints, may differ by."""


HAT_SMALLEST = "smallest that HAT validates"
"""Name of the architecture whose validation loss a checkpoint of HAT's notes."""


@dataclass(frozen=True)
class ImportedSuper:
    """A run folder that was made, with the proof that weights, tokens and dictionaries belong together."""

    run: Run
    result: TrainResult
    noted_loss_bits: float | None
    """Validation loss of HAT's smallest architecture by the checkpoint; None: it notes none."""
    measured_loss_bits: float | None
    """The same measured here; None where the space has no such architecture."""


@dataclass(frozen=True)
class SuperImport:
    """What is brought in."""

    checkpoint: str
    data_bin: str
    space: str | None = None
    """HAT's YAML with the choices; None: those of the checkpoint's arguments."""
    languages: str | None = None
    """Source and target, such as en-de; None: by the names of the data-bin's files."""
    name: str = ""
    overrides: tuple[str, ...] = ()


def import_super(
    what: SuperImport, place: str | None = None, progress: ProgressFactory = no_progress_bars
) -> ImportedSuper:
    """Make a run folder of a trained SuperTransformer; raise HatRayError, and leave no folder, where it cannot be."""
    space = None if what.space is None else _space(what.space)
    loaded = load_hat_checkpoint(what.checkpoint, space)
    if loaded.architecture is not None:
        raise CheckpointError(
            f"{what.checkpoint} is one SubTransformer of HAT's: bring it in by `hat-ray import model`"
        )
    data_bin = DataBin.open(what.data_bin, *_languages(what, loaded))
    _require_vocabularies(loaded, data_bin, what.checkpoint)
    recipe = _recipe(loaded, data_bin, what)
    folder = Folder.at(place or str(Path("runs") / recipe.name))
    fresh = not folder.exists() or not folder.list()
    run = Run.open(folder, recipe)
    if run.record("supernet") is not None:
        raise RunError(f"{folder} has a SuperTransformer already: name another folder with --run")
    try:
        stages: list[Stage[Any]] = [CORPUS, _taken_over(loaded, what.checkpoint)]
        run_stages(Context(run, LocalExecution(), progress), stages)
    except InUseError:
        raise
    except HatRayError:
        if fresh:
            _delete(folder)
        raise
    result = run.output("supernet", TrainResult)
    assert result is not None
    return ImportedSuper(run, result, loaded.valid_loss_bits, result.valid_loss_bits.get(HAT_SMALLEST))


def _space(path: str) -> SearchSpace:
    return read_space(read_text(path, "search space", SpaceError), Path(path).stem, path)


def _languages(what: SuperImport, loaded: HatCheckpoint) -> tuple[str, str]:
    named = what.languages
    given = [loaded.arguments.get(key) for key in ("source_lang", "target_lang")]
    if named is None and all(isinstance(one, str) and one for one in given):
        named = "-".join(map(str, given))
    return language_pair(what.data_bin, named)


def _require_vocabularies(loaded: HatCheckpoint, data_bin: DataBin, checkpoint: str) -> None:
    """Raise CheckpointError where the weights have rows for another dictionary than the data-bin's."""
    model = loaded.model
    sides = ("source", data_bin.source, model.source_vocab_size), ("target", data_bin.target, model.target_vocab_size)
    for side, dictionary, rows in sides:
        if len(dictionary) != rows:
            raise CheckpointError(
                f"{checkpoint} was trained with {rows} {side} symbols, the dictionary of {data_bin.folder} has "
                f"{len(dictionary)}: name the data-bin that it was trained on"
            )
    if model.config.share_embeddings == "all" and not data_bin.joined:
        raise CheckpointError(
            f"{checkpoint} shares one embedding for both sides, the dictionaries of {data_bin.folder} differ: name the "
            "data-bin that it was trained on"
        )


def _recipe(loaded: HatCheckpoint, data_bin: DataBin, what: SuperImport) -> Recipe:
    """Return the recipe that the checkpoint's arguments describe, on its data-bin."""
    values = {key.replace("_", "-"): value for key, value in loaded.arguments.items() if value is not None}
    ledger = Ledger()
    for section in ("supernet", "retrain"):
        map_training(values, section, _SOURCE, None, ledger)
    map_space(loaded.space, _SOURCE, ledger)
    map_arch(values, _SOURCE, ledger)
    for key, setting in DIRECT.items():
        if key in values and not setting.startswith(("model.", "corpus.source_", "corpus.target_")):
            ledger.put(_SOURCE, key, values[key], {setting: values[key]})
    usual = ModelConfig()
    network = {name: value for name, value in loaded.model.config if value != getattr(usual, name)}
    ledger.settings |= {f"model.{name}": value for name, value in network.items()}
    ledger.settings |= {
        "corpus.source": "fairseq",
        "corpus.source_language": data_bin.languages[0],
        "corpus.target_language": data_bin.languages[1],
        "corpus.fairseq.folder": str(data_bin.folder.absolute()),
        "corpus.vocab_size": len(data_bin.source),
        "corpus.max_length": loaded.model.config.max_positions,
    }
    name = what.name or re.sub(r"[^A-Za-z0-9._-]", "-", Path(what.checkpoint).stem).strip("._-")[:64] or "hat"
    return made_of(ledger, name, f"Imported from HAT: {Path(what.checkpoint).name}", what.overrides).recipe


def _delete(folder: Folder) -> None:
    """Delete the run folder that was made here, unless another process works in it by now."""
    with suppress(InUseError):
        with held(folder):
            for name in folder.list():
                if name != LEASE:
                    folder.delete(name)
        folder.delete(LEASE)
        folder.delete_if_empty()


def _taken_over(loaded: HatCheckpoint, checkpoint: str) -> Stage[TrainResult]:
    """Return the stage `supernet` with the checkpoint's weights in place of training."""

    def take(context: Context, folder: Folder) -> TrainResult:
        corpus, config = Corpus.load(context.folder("corpus")), context.recipe.supernet
        with context.progress("validating the SuperTransformer"):
            result = validated(loaded.model, corpus, config, loaded.updates)
        _require_sense(result, loaded, checkpoint)
        notes = {"imported_from": Path(checkpoint).name, "updates": loaded.updates}
        save_model(folder, SUPERNET, loaded.model, {"valid_loss_bits": dict(result.valid_loss_bits), **notes})
        return result

    return Stage.of("supernet", TrainResult, take)


def validated(model: SuperTransformer, corpus: Corpus, config: TrainConfig, updates: int) -> TrainResult:
    """Return the result of a training that happened elsewhere: its losses, measured as training measures them."""
    validation = ValidationLoss(corpus.valid, config.valid_max_tokens, config.label_smoothing)
    ends = {"largest": model.space.largest(), "smallest": model.space.smallest()}
    if (of_hat := hat_smallest(model.space)) is not None:
        ends[HAT_SMALLEST] = of_hat
    sums = {
        name: validation.sums(model, lambda batch, one=one: model.output(batch.source, batch.target_in, one))  # type: ignore[misc]
        for name, one in ends.items()
    }
    return TrainResult(
        history=(),
        updates=updates,
        tokens=0,
        seconds=0.0,
        valid_loss_bits={name: one.loss_bits for name, one in sums.items()},
        valid_nll_bits={name: one.nll_bits for name, one in sums.items()},
    )


def _require_sense(result: TrainResult, loaded: HatCheckpoint, checkpoint: str) -> None:
    """Raise CheckpointError where weights and tokens do not belong together; warn where they may not."""
    uniform, found = math.log2(loaded.model.target_vocab_size), result.valid_nll_bits["largest"]
    remedy = "name the data-bin that it was trained on"
    if result.updates and not found <= uniform + _TOO_FAR:
        raise CheckpointError(
            f"{checkpoint} has a validation loss of {found:.2f} bits a token, a uniform guess {uniform:.2f}: {remedy}"
        )
    noted, measured = loaded.valid_loss_bits, result.valid_loss_bits.get(HAT_SMALLEST)
    if noted is None or measured is None:
        return
    if not measured <= noted + _TOO_FAR:
        raise CheckpointError(
            f"{checkpoint} notes a validation loss of {noted:.4f} bits a token, here it is {measured:.4f}: {remedy}"
        )
    if abs(measured - noted) > _NEAR:
        log.warning("%s notes a validation loss of %.4f bits a token, here it is %.4f", checkpoint, noted, measured)
