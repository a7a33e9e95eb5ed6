"""Settings of one section that another section contradicts: found from the recipe alone."""

from collections.abc import Iterator, Sequence

from hat_ray.core.config import nearest_name
from hat_ray.corpus.vocabulary.make import has_own
from hat_ray.errors import PluginError, SearchError, SpaceError
from hat_ray.latency.device import names_device
from hat_ray.latency.sweep import plan_sweep
from hat_ray.pipeline.preflight.check import Finding, Situation
from hat_ray.pipeline.preflight.text import vocabulary_sizes
from hat_ray.recipe import Recipe
from hat_ray.search.algorithms.registry import ALGORITHMS, options_of

_FIRST_WORD = 4
"""Entries of a vocabulary that stand for no text."""
_BYTES = 256
PARTS_OF_VALIDATION = 8
"""Validation sentences that `search.early_stop` needs: it scores them in this number of parts."""


def check_rows(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """A predictor needs a number of rows: fewer are reported before they are timed."""
    least, samples = recipe.predictor.min_rows, recipe.latency.samples
    size = recipe.space.build().size()
    if size < least:
        yield (
            "failure",
            f"predictor.min_rows must be at most the architectures of the space, got {least} of {size}: widen the "
            "space, or lower predictor.min_rows",
        )
    elif samples < least and not recipe.latency.times_nothing:
        shared = "" if not recipe.latency.table else f" that {recipe.latency.table} does not hold yet"
        yield (
            "warning" if recipe.latency.table else "failure",
            f"latency.samples must be at least predictor.min_rows {least}, got {samples}: raise latency.samples"
            + (f", or count on {least - samples} rows{shared}" if shared else ""),
        )


def check_training_positions(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every sentence that is trained on or validated with has positions."""
    most, summary = recipe.model.max_positions, situation.corpus()
    if summary is None:
        if recipe.corpus.max_length > most:
            yield (
                "failure",
                f"corpus.max_length must be at most model.max_positions {most}, got {recipe.corpus.max_length}: "
                "raise model.max_positions or lower corpus.max_length",
            )
        return
    for split in ("train", "valid"):
        sides = getattr(summary, split)
        longest = max(sides.source.longest, sides.target.longest)
        if longest > most:
            yield (
                "failure",
                f"sentences must have at most model.max_positions {most} tokens, the corpus's longest for "
                f"{'training' if split == 'train' else 'validation'} has {longest}: raise model.max_positions",
            )


def check_timed_positions(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The sentences that are timed have positions."""
    config, most = recipe.latency, recipe.model.max_positions
    longest = max(config.source_length, config.target_length)
    if not config.length_mix and longest > most and not config.times_nothing:
        yield (
            "failure",
            f"latency.source_length and target_length must be at most model.max_positions {most}, got {longest}: "
            "lower them or raise model.max_positions",
        )


def check_translated_positions(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The longest sentence that is translated, and the longest translation, have positions."""
    config, most, summary = recipe.evaluate, recipe.model.max_positions, situation.corpus()
    source = config.max_source_length if summary is None else min(config.max_source_length, summary.test.source.longest)
    target = int(config.max_length_factor * source + config.max_length_extra)
    if max(source, target + 1) > most:
        yield (
            "warning" if summary is None else "failure",
            f"a test sentence of {source} tokens, and its translation of up to {target}, must stay below "
            f"model.max_positions {most}: raise model.max_positions, or lower evaluate.max_source_length or "
            "max_length_factor",
        )


def check_evaluation_beam(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """A beam holds at most half of the vocabulary."""
    size = vocabulary_size(recipe, situation)
    if recipe.evaluate.beam > size // 2 - 1:
        yield (
            "failure",
            f"evaluate.beam must be at most half of the vocabulary, got {recipe.evaluate.beam} for {size} entries: "
            f"lower it to {max(1, size // 2 - 1)}",
        )


def check_timed_beam(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """A timing needs twice the beam of words."""
    size, beam = vocabulary_size(recipe, situation), recipe.latency.beam
    if size < max(_FIRST_WORD + 1, 2 * beam) and not recipe.latency.times_nothing:
        yield (
            "failure",
            f"latency.beam must be at most half of the vocabulary, got {beam} for {size} entries: lower latency.beam "
            "or raise corpus.vocab_size",
        )


def check_vocabulary_size(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """A vocabulary holds its special entries, and every byte where characters are spelled in bytes."""
    config = recipe.corpus
    if config.source == "fairseq":
        return
    least = _FIRST_WORD + (_BYTES if config.spells_bytes else 0) + 1
    if config.vocab_size < least and not has_own(config):
        why = "its special entries, the 256 bytes of corpus.byte_fallback" if config.spells_bytes else "its special"
        yield (
            "failure",
            f"corpus.vocab_size must hold {why} and a character, got {config.vocab_size}: raise it to {least} or more",
        )


def check_best(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The model that decides the best checkpoint is validated by that training."""
    validated = {"supernet": ("largest", "smallest"), "retrain": ("model",)}
    for section, known in validated.items():
        best = getattr(recipe, section).best_check
        if section in situation.stages and best is not None and best not in known:
            yield (
                "failure",
                f"{section}.best_check must be a validation of this training, {' or '.join(known)}, got {best}: "
                "set it to one of them, or to null",
            )


def check_batches(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The longest sentence fits into a batch's budget of tokens."""
    longest, summary = recipe.corpus.max_length, situation.corpus()
    if summary is not None:
        longest = max(summary.train.source.longest, summary.train.target.longest)
    for section in ("supernet", "retrain"):
        budget = getattr(recipe, section).max_tokens
        if section in situation.stages and budget < longest:
            yield (
                "warning",
                f"{section}.max_tokens should hold the longest sentence, got {budget} for up to {longest} tokens: such "
                "a pair stands alone and takes more memory; raise it, or lower corpus.max_length",
            )


def check_sharing(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Channels that are sorted by importance have one order, and a time when they are sorted."""
    sharing = recipe.model.sharing == "importance"
    compared = "policies" in situation.stages and any(spec.sharing == "importance" for spec in recipe.policies.specs())
    if not (sharing and "supernet" in situation.stages) and not compared:
        return
    what = "model.sharing=importance" if sharing else "policies.compare with importance"
    largest = recipe.space.build().largest()
    widths = largest.encoder.embed_dim, largest.decoder.embed_dim
    if recipe.model.share_embeddings == "all" and widths[0] != widths[1]:
        yield (
            "failure",
            f"{what} and model.share_embeddings=all need one largest width, got {widths[0]} and {widths[1]}: set "
            "model.share_embeddings=decoder, or change the space",
        )
    training = recipe.supernet
    if training.sort_update is not None and training.sort_update >= training.updates:
        yield (
            "failure",
            f"supernet.sort_update must be below supernet.updates {training.updates}, got {training.sort_update}: the "
            "channels would never be sorted; lower it",
        )


def check_early_stop(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """A search that stops early scores the validation set in parts."""
    summary = situation.corpus()
    pairs = summary.valid.pairs if summary else recipe.corpus.toy.valid_pairs if recipe.corpus.source == "toy" else None
    if recipe.search.early_stop and pairs is not None and pairs < PARTS_OF_VALIDATION:
        yield (
            "failure",
            f"search.early_stop needs at least {PARTS_OF_VALIDATION} validation sentences, got {pairs}: add some, or "
            "set search.early_stop to false",
        )


def check_algorithm(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The search's algorithm can be loaded, takes its options, and continues after its first, random architectures.

    This imports the algorithm: of hat-ray's own, or of the installed package that the recipe names.
    """
    config = recipe.search
    try:
        options = options_of(config.algorithm, config.algorithm_options)
    except (PluginError, SearchError) as error:
        yield "failure", str(error)
        return
    if config.algorithm not in ALGORITHMS.own_names:
        yield "ok", f"search.algorithm {config.algorithm} is code of an installed package, and is run"
    if config.algorithm != "random" and options.population > config.evaluations:
        yield (
            "warning",
            f"search.evaluations should be above the population of {options.population}, got {config.evaluations}: "
            "nothing but random architectures would be scored; raise it, or lower search.algorithm_options.population",
        )


def check_limited_devices(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Limits by device name the devices, and every device has some."""
    names = list(dict.fromkeys(device.called for device in recipe.latency.devices))
    if names and all(names):
        yield from (("failure", line) for line in limits_against(recipe, names, "devices of latency.devices"))


def limits_against(recipe: Recipe, devices: Sequence[str], what: str) -> Iterator[str]:
    """Yield in a line each key of the limits that names none of some devices, and each device that none names.

    `devices` are ids, or names of the recipe; `what` says what they are.
    """
    key_of_all, limits = recipe.search.stated
    if not isinstance(limits, dict):
        return
    for key in limits:
        if not any(_may_be(key, name) for name in devices):
            near = nearest_name(key, list(devices))
            hint = f"did you mean {near}?" if near else "correct it"
            yield f"{key_of_all} must name {what}, {', '.join(devices)}, got {key}: {hint}"
    for name in devices:
        if not any(_may_be(key, name) for key in limits):
            yield f"{key_of_all} must name a limit for every device, got none for {name}: it has {', '.join(limits)}"


def _may_be(key: str, name: str) -> bool:
    """Return whether a key of the limits may mean the recipe's device `name`: its id begins with the name."""
    return names_device(key, name) or names_device(name, key)


def check_ranking(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The space has at least the architectures that are to be trained."""
    count, size = recipe.ranking.architectures, recipe.space.build().size()
    if size < count:
        yield (
            "failure",
            f"ranking.architectures must be at most the architectures of the space, got {count} of {size}: lower it",
        )


def check_sweep(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Something can be varied, and timed."""
    if recipe.latency.times_nothing:
        yield (
            "failure",
            "a sweep times architectures, got only devices of a table in latency.devices: name one that is attached",
        )
    try:
        plan_sweep(recipe.space.build(), recipe.sweep.base)
    except SpaceError as error:
        yield "failure", str(error)


def check_devices_here(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Without a cluster this machine is every device that names no labels and no resource."""
    devices = recipe.latency.attached().devices
    elsewhere = [device for device in devices if not device.is_anywhere]
    if situation.local and elsewhere:
        names = ", ".join(device.name or device.resource or str(device.labels) for device in elsewhere)
        rest = len(devices) - len(elsewhere)
        yield (
            "warning",
            f"latency.devices with labels or a resource need a cluster, got --local for {names}: "
            + ("they are left out" if rest else "this machine is timed instead, under its own name"),
        )


def vocabulary_size(recipe: Recipe, situation: Situation) -> int:
    """Return the entries of the target's vocabulary, as far as they are known."""
    return vocabulary_sizes(recipe, situation)[1]
