"""The devices: machines of those that are timed, what these can run and measure, rows of those that a table knows, and
whether limits name them.

This file loads PyTorch, which knows what a processor computes in: it is imported where a recipe asks for more than
PyTorch's own runtime in fp32, for more than time or for a device of a table, where limits name devices, and for a
cluster.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hat_ray.errors import HatRayError, LatencyError, PluginError, StorageError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.detection import device_of, devices_of
from hat_ray.latency.device import hardware_name
from hat_ray.latency.fleet.plan import Node, fits, placements
from hat_ray.latency.lookup.devices import count_rows, why_no_device, why_no_workload
from hat_ray.latency.quantities import ENERGY, QUANTITIES, DeviceProfile, Recorded
from hat_ray.latency.quantity_rows import require_available
from hat_ray.latency.table.table import keep
from hat_ray.latency.timing.job import TimingJob
from hat_ray.pipeline.preflight.check import Check, Finding, Machine, Situation
from hat_ray.pipeline.preflight.settings import limits_against
from hat_ray.pipeline.preflight.stores import PATIENCE_S
from hat_ray.pipeline.preflight.text import vocabulary_sizes
from hat_ray.predictor.quantities import quantity_rows
from hat_ray.recipe import Recipe
from hat_ray.runtime.choice import AUTO, why_none
from hat_ray.runtime.protocol import RuntimeSettings, why_unsupported
from hat_ray.storage.folder import Folder

_TIMING = frozenset({"latency", "sweep"})


def check_nodes(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every device of the recipe is a node of the cluster, and no node is one device under two names."""
    if not situation.cluster or recipe.latency.times_nothing:
        return
    nodes, config = [_node(machine) for machine in situation.machines], recipe.latency.attached()
    there = [selector for selector in config.devices if any(fits(node, selector) for node in nodes)]
    for selector in config.devices:
        if selector not in there:
            yield (
                "warning",
                f"every device of latency.devices needs a node, got none for {_described(selector)}: start one with "
                "these labels or resources before its timing begins, or take the device out",
            )
    try:
        placements(nodes, config.model_copy(update={"devices": tuple(there)}))
    except LatencyError as error:
        yield "failure", str(error)


def check_runtimes(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every device's processor can compute what its runtime and dtype ask for."""
    config = recipe.latency
    selectors = _selectors(config, situation)
    reasons = [_why_not(recipe, selector, situation) for selector in selectors]
    for selector, reason in zip(selectors, reasons, strict=True):
        if reason and all(reasons):
            yield "warning" if situation.may_grow else situation.of_machine, reason
        elif reason and selector is not None:
            yield "warning", f"device {_described(selector)} is left out: {reason}"


def check_quantities(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Every quantity that a limit bounds can be measured or computed on its devices.

    Rows of a shared table may know a quantity that a timing here records: then it is a warning.
    """
    config = recipe.latency.model_copy(update={"length_mix": 0})  # drawn from the corpus; no quantity depends on it
    job = _job(recipe, config, Folder.at("."), situation)
    if recipe.latency.times_nothing:
        return
    if situation.cluster:
        if reason := _why_no_energy(job, situation):
            yield "warning" if situation.may_grow or config.table else situation.of_machine, reason
        return
    for selector in _selectors(config, situation):
        try:
            device = device_of(config, selector, job.largest)
        except LatencyError:
            continue  # reported by `check_runtimes`
        own = job.on(selector)
        for name in own.quantities_of(device.slug):
            if reason := _why_unavailable(name, own.profile(device)):
                known = config.table and isinstance(QUANTITIES.load(name), Recorded)
                yield "warning" if known else situation.of_machine, f"{_key_of(recipe, name)} {_RULE}; {reason}"


_RULE = "must bound what the device measures"


def _key_of(recipe: Recipe, name: str) -> str:
    return "latency.quantities" if name in recipe.latency.quantities else "search.limits"


def _why_unavailable(name: str, profile: DeviceProfile) -> str | None:
    try:
        require_available(name, profile)
    except (LatencyError, PluginError) as error:
        return str(error)
    return None


def _why_no_energy(job: TimingJob, situation: Situation) -> str | None:
    """Return why no node that may time counts energy, where a limit bounds it; None: one does, or may."""
    bounding = [key for key, names in (("", job.config.quantities), *job.bounded) if ENERGY in names]
    if not bounding:
        return None
    for machine in situation.machines:
        may = [one for one in job.config.devices if fits(_node(machine), one)] or not job.config.devices
        if may and machine.counts_energy is not False:
            return None
    quantity = QUANTITIES.load(ENERGY)
    assert isinstance(quantity, Recorded), "energy is read from the table"
    return f"search.limits {_RULE}; {ENERGY} is not known of any node: {quantity.remedy}"


def check_named_devices(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """Limits by device name this machine, or the nodes of the cluster, where latency.devices names no devices."""
    config = recipe.latency
    if config.devices and (situation.cluster or not all(one.is_anywhere for one in config.devices)):
        return
    if not situation.cluster:
        slugs = _slugs_here(_job(recipe, config, Folder.at("."), situation), situation)
        found = limits_against(recipe, slugs, "devices that are timed here") if slugs else ()
        yield from ((situation.of_machine, line) for line in found)
        return
    if not all(machine.model and not machine.gpus for machine in situation.machines):
        return  # what a GPU, or a node that did not answer, is called is not known
    hardware = list(dict.fromkeys(hardware_name(machine.model) for machine in situation.machines))
    for line in limits_against(recipe, hardware, "devices of the cluster"):
        yield "warning" if situation.may_grow else situation.of_machine, line


def _slugs_here(job: TimingJob, situation: Situation) -> list[str]:
    try:
        found = devices_of(job.config, _selectors(job.config, situation), job.largest)
        return [device.slug for _, device in found]
    except LatencyError:
        return []  # reported by `check_runtimes`


def _selectors(config: LatencyConfig, situation: Situation) -> Sequence[DeviceSelector | None]:
    if situation.cluster or config.times_nothing:
        return config.timed
    return [device for device in config.devices if device.is_anywhere] or (None,)


def _why_not(recipe: Recipe, selector: DeviceSelector | None, situation: Situation) -> str | None:
    """Return why none of the machines that a device may be can run it; None: one can, or nothing is known."""
    own, reason = recipe.latency.of(selector), None
    if selector is not None and selector.num_gpus:
        return None
    for machine in situation.machines:
        if situation.cluster and selector is not None and not fits(_node(machine), selector):
            continue
        if (selector is None and own.takes_gpus and machine.gpus) or (situation.cluster and not machine.isa):
            return None
        isa = machine.isa if situation.cluster else None
        settings = RuntimeSettings(own.dtype, timed=True)
        if own.runtime == AUTO:
            reason = why_none(settings, isa, recipe.model)
        else:
            reason = why_unsupported(own.runtime, settings, isa=isa, config=recipe.model)
        if reason is None:
            return None
        reason = f"{machine.host}: {reason}" if situation.cluster else reason
    return reason


def _node(machine: Machine) -> Node:
    return Node(machine.id, machine.host, machine.labels, machine.resources)


def _described(selector: DeviceSelector) -> str:
    return selector.name or str(selector.model_dump(exclude_defaults=True))


def _job(recipe: Recipe, config: LatencyConfig, table: Folder, situation: Situation) -> TimingJob:
    """Return the timing job that a recipe will have, with the sizes of vocabularies as far as they are known."""
    source, target = vocabulary_sizes(recipe, situation)
    space, bounded = recipe.space.build(), recipe.search.bounded
    return TimingJob(space, recipe.model, target, config, table, source_vocab_size=source, bounded=bounded)


def check_table_devices(recipe: Recipe, situation: Situation) -> Iterator[Finding]:
    """The table has rows enough of each of its devices, of this space and workload. It is only read."""
    if recipe.latency.length_mix or not recipe.latency.of_table:
        return  # the lengths are drawn from the corpus: the stage itself looks
    folder = Folder.at(recipe.latency.table).asked_for(PATIENCE_S)
    try:
        folder.require()
        job = replace(_job(recipe, recipe.latency, folder, situation), kept=keep(folder))
        for selector in recipe.latency.of_table:
            yield from _of_table(job, selector, recipe.predictor.min_rows, situation)
    except (HatRayError, StorageError, OSError) as error:
        yield "failure", f"cannot use the latency table that latency.table names: {error}"


def _of_table(job: TimingJob, selector: DeviceSelector, least: int, situation: Situation) -> Iterator[Finding]:
    """Yield what a device of the table lacks."""
    slug = selector.table
    if reason := why_no_device(job, slug):
        yield "failure", reason
    elif reason := why_no_workload(job, slug):  # the vocabulary may still differ from its setting
        yield "warning" if selector.vocab_size is None and situation.corpus() is None else "failure", reason
    elif (rows := count_rows(job, slug)) < least:
        yield (
            "failure",
            f"a predictor needs at least predictor.min_rows {least} rows, {job.table_root} has {rows} of {slug} that "
            "serve this recipe: set latency.rows_of=covering, or take another device",
        )
    else:
        try:
            quantity_rows(job, slug, job.quantities_of(slug))
        except LatencyError as error:
            yield "failure", str(error)


DEVICE_CHECKS = (
    Check("nodes of the devices", check_nodes, _TIMING),
    Check("runtimes of the devices", check_runtimes, _TIMING),
    Check("quantities of the devices", check_quantities, _TIMING),
    Check("names of the devices", check_named_devices, _TIMING),
    Check("devices of the table", check_table_devices, frozenset({"latency", "predictor"})),
)
