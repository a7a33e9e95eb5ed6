"""CPUs and GPUs that stages ask for, and whether the machines can ever give them.

Disk and memory: whether what a recipe takes is free here.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from hat_ray.core.placement import VERBS, Work
from hat_ray.pipeline.preflight.check import Finding, Machine, Situation, Verdict
from hat_ray.pipeline.preflight.estimate import Estimate, disk_of, memory_of
from hat_ray.pipeline.preflight.text import vocabulary_sizes
from hat_ray.recipe import Recipe
from hat_ray.train.capacity import fewest_workers, needs, workers_that_fit
from hat_ray.train.config import TrainConfig

_MOST_NAMED = 3
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def check_disk(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The disk of the run folder has room for the files still to be written."""
    folder = situation.run_folder
    if folder is None or not folder.is_local:
        return
    path = Path(folder.uri)
    there = next(place for place in (path, *path.parents) if place.exists())
    free, needed = shutil.disk_usage(there).free, disk_of(recipe, situation.stages, vocabulary_sizes(recipe, situation))
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
    needed = memory_of(
        recipe, situation.stages, vocabulary_sizes(recipe, situation), machine.cpus, local=situation.local
    )
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


_WORK_OF: Mapping[Work, frozenset[str]] = {
    "train": frozenset({"supernet", "retrain", "ranking", "policies"}),
    "search": frozenset({"search"}),
    "score": frozenset({"evaluate", "ranking", "policies"}),
}
"""The stages that do each kind of work."""


def check_placement(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every rule of the recipe about nodes fits one of the cluster."""
    for work, stages in _WORK_OF.items():
        rule = recipe.cluster.rule(work)
        if rule is not None and stages & set(situation.stages) and _fits_none(situation, work):
            yield (
                _verdict(situation),
                f"cluster.{work} must fit a node of the cluster, got {rule.words}, which fits none: start one with "
                f"these labels or resources, or change cluster.{work}" + _wait(situation),
            )


def _fits_none(situation: Situation, work: Work) -> bool:
    return bool(situation.cluster and situation.machines and not situation.machines_that(work))


_WAITS = "; the cluster may grow, and it will be waited for"


def check_training(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Workers that train find room: all of a SuperTransformer's, one of each training of one architecture."""
    scratch = {"retrain", "ranking", "policies"} & set(situation.stages)
    if "supernet" in situation.stages:
        yield from _check_workers("supernet", recipe.supernet, fewest_workers(recipe.supernet), situation)
    if "policies" in situation.stages:
        yield from _check_workers("supernet", recipe.supernet, 1, situation)
    if scratch:
        yield from _check_workers("retrain", recipe.retrain, 1, situation)


def _check_workers(section: str, config: TrainConfig, workers: int, situation: Situation) -> Iterator[Finding]:
    """One process, and a Ray of our own on this machine, find CPUs for all; a GPU has to be there."""
    need = needs(config) if situation.cluster else {name: n for name, n in needs(config).items() if name == "GPU"}
    if situation.local:
        workers = 1
    machines = situation.machines_that("train")
    if not (need and machines):
        return
    room = workers_that_fit([_resources(machine) for machine in machines], need)
    if room >= workers:
        return
    amounts = " and ".join(f"{amount:g} {name}{'s' if amount != 1 else ''}" for name, amount in need.items())
    yield (
        _verdict(situation),
        f"{section} trains with {workers} worker{'s' if workers > 1 else ''} of {amounts} each, "
        f"{_where(situation, 'train')} room for {room}: " + _remedy(section, config, room) + _wait(situation, "train"),
    )


def _remedy(section: str, config: TrainConfig, room: int) -> str:
    if config.use_gpu and room == 0:
        return f"set {section}.use_gpu to false, or add GPUs"
    if room == 0:
        return f"lower {section}.threads, or add larger nodes"
    return f"lower {section}.workers or {section}.min_workers, or add nodes"


def check_search(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """One worker of the search at least finds room; else it would be waited for without end."""
    config = recipe.search
    asked = {"CPU": config.worker_cpus} if situation.cluster else {}
    asked |= {"GPU": config.worker_gpus}
    need = {name: amount for name, amount in asked.items() if amount > 0}
    machines = situation.machines_that("search")
    if (
        need
        and machines
        and not any(
            all(_resources(machine).get(name, 0) >= amount for name, amount in need.items()) for machine in machines
        )
    ):
        wanted = " and ".join(f"search.worker_{name.lower()}s {amount:g}" for name, amount in need.items())
        yield (
            _verdict(situation),
            f"one machine must have what a worker of the search asks for, got {wanted}, and "
            f"{_where(situation, 'search')} no such one: lower them" + _wait(situation, "search"),
        )


def check_timing(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """A device that is to be a GPU has one, and threads have CPUs."""
    config, machines = recipe.latency, situation.machines
    if not machines or config.times_nothing:
        return
    if situation.cluster:
        if not any(machine.cpus >= 1 for machine in machines):
            yield (
                _verdict(situation),
                "a node that times needs a CPU, the cluster's have none: start one with ray start --num-cpus 1"
                + _wait(situation),
            )
        elif not config.devices and config.accelerator == "cuda" and not any(one.gpus >= 1 for one in machines):
            yield (
                _verdict(situation),
                "latency.accelerator asks for a GPU, the cluster has none: set it to auto or cpu" + _wait(situation),
            )
        return
    here = [device for device in config.devices if device.is_anywhere]
    on_gpu = any(device.num_gpus for device in here) if here else config.accelerator == "cuda"
    if on_gpu and not machines[0].gpus:
        yield (
            situation.of_machine,
            "latency times on a GPU (latency.accelerator, latency.devices), this machine has none: set "
            "latency.accelerator to cpu, or num_gpus to 0",
        )
    threads = max(config.of(device).threads for device in here or (None,))
    if threads > machines[0].cpus:
        yield (
            "warning",
            f"latency.threads should be at most the CPUs that may be used, got {threads} for {machines[0].cpus}: "
            "threads would wait for each other; lower it",
        )


def check_evaluation(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Translating, scoring and ranking on a cluster take one CPU each, and translating the GPU that settings name."""
    machines = situation.machines_that("score")
    wants_gpu = recipe.evaluate.use_gpu and "evaluate" in situation.stages and machines
    if wants_gpu and not any(machine.gpus >= 1 for machine in machines):
        yield (
            _verdict(situation),
            f"evaluate.use_gpu asks for a GPU, {_where(situation, 'score')} none: set it to false"
            + _wait(situation, "score"),
        )
    if situation.cluster and machines and not any(machine.cpus >= 1 for machine in machines):
        yield (
            _verdict(situation),
            f"translating needs a node with a CPU, {_where(situation, 'score')} none: start one with ray start "
            "--num-cpus 1" + _wait(situation, "score"),
        )


def _resources(machine: Machine) -> Mapping[str, float]:
    return {"CPU": float(machine.cpus), "GPU": float(machine.gpus)}


def _verdict(situation: Situation) -> Verdict:
    """Resources that a cluster can never give are a failure; those that this machine lacks are one where work begins on
    it."""
    if situation.cluster:
        return "warning" if situation.may_grow else "failure"
    return situation.of_machine


def _wait(situation: Situation, work: Work | None = None) -> str:
    """Return the end of a line: which nodes are left out of the work, and whether more are waited for."""
    reasons = situation.left_out.get(work, {}) if work else {}
    hosts = [f"{machine.host}: {reasons[machine.id]}" for machine in situation.machines if machine.id in reasons]
    out = f"; cluster.{work} leaves out {'; '.join(hosts[:_MOST_NAMED])}" if hosts else ""
    out += "; ..." if len(hosts) > _MOST_NAMED else ""
    return out + (_WAITS if situation.cluster and situation.may_grow else "")


def _where(situation: Situation, work: Work) -> str:
    if not situation.cluster:
        return "this machine has"
    return f"the part of the cluster that {VERBS[work]} has" if situation.left_out.get(work) else "the cluster has"
