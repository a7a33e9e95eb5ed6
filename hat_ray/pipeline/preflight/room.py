"""Disk and memory: whether what a recipe takes is free here."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from hat_ray.pipeline.preflight.check import Finding, Situation
from hat_ray.pipeline.preflight.estimate import Estimate, disk_of, memory_of
from hat_ray.recipe import Recipe

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def check_disk(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The disk of the run folder has room for what is still to be written."""
    folder = situation.run_folder
    if folder is None or not folder.is_local:
        return
    path = Path(folder.uri)
    there = next(place for place in (path, *path.parents) if place.exists())
    free, needed = shutil.disk_usage(there).free, disk_of(recipe, situation.stages, _vocabulary(recipe, situation))
    if needed.least > free:
        yield (
            "failure",
            f"the run writes at least {size(needed.least)}, {there} has {size(free)} free: make room, name a roomier "
            "place with --run, or keep fewer checkpoints (keep_last, average_last)",
        )
    elif needed.most > free:
        yield (
            "warning",
            f"the run may write up to {size(needed.most)}, {there} has {size(free)} free: make room, or keep fewer "
            "checkpoints (keep_last, average_last)",
        )


def check_memory(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """This machine has the memory for its largest stage."""
    if situation.cluster or not situation.machines:
        return
    machine = situation.machines[0]
    needed = memory_of(recipe, situation.stages, _vocabulary(recipe, situation), machine.cpus, local=situation.local)
    yield from _compare(needed, machine.memory_bytes, machine.free_memory_bytes, situation)


def _compare(needed: Estimate, total: int | None, free: int | None, situation: Situation) -> Iterator[Finding]:
    remedy = "lower max_tokens, the workers, or the space's widths"
    if total is not None and needed.least > total:
        yield (
            situation.of_machine,
            f"training holds at least {size(needed.least)} of weights and what Adam keeps of them, this machine has "
            f"{size(total)} of memory: {remedy}",
        )
    elif free is not None and needed.most > free:
        yield (
            "warning",
            f"the recipe may take up to {size(needed.most)} of memory, {size(free)} are free here: {remedy}, or close "
            "something",
        )


def size(number: float) -> str:
    """Write a number of bytes for people."""
    for unit, name in _UNITS:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number:.0f} bytes"


def _vocabulary(recipe: Recipe, situation: Situation) -> int:
    summary = situation.corpus()
    return recipe.corpus.vocab_size if summary is None else summary.vocabulary_size
