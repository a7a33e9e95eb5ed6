"""Several runs side by side: what they share, what differs in their recipes, and what must not be compared.

Decisions
- Everything comes from the runs' `report.json`: nothing is computed again, and a run may lie on any file system.
- A letter names a run in figures and tables, so that they read without colour and two runs may have one name.
- A figure whose comparability is unknown is drawn all the same, under its caution.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hat_ray.core.text import UNKNOWN
from hat_ray.core.yaml_text import read_yaml
from hat_ray.errors import RecipeError
from hat_ray.report.data import Device, ReportData
from hat_ray.search.frontier import pareto_front


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs: its letter, the name and the place of its folder, and its report."""

    run_label: str
    name: str
    place: str
    data: ReportData

    @property
    def label(self) -> str:
        return f"{self.run_label} · {self.name}"


@dataclass(frozen=True)
class SharedDevice:
    """A device, and the runs that have it."""

    device: Device
    runs: tuple[ComparedRun, ...]


@dataclass(frozen=True)
class Caution:
    """What must not be compared between these runs, and why."""

    what: str
    """`bleu`, `loss`, `latency` or `space`; `copy` where there is nothing to compare."""
    text: str


def run_label(index: int) -> str:
    """Return A, B, ... Z, AA, AB, ..."""
    first = run_label(index // 26 - 1) if index >= 26 else ""
    return first + chr(ord("A") + index % 26)


def devices_of(runs: Sequence[ComparedRun]) -> list[SharedDevice]:
    """Return every device with the runs that have it, those of most runs first."""
    found: dict[str, Device] = {}
    for run in runs:
        for device in run.data.devices:
            found.setdefault(device.slug, device)
    shared = [
        SharedDevice(device, tuple(run for run in runs if any(d.slug == slug for d in run.data.devices)))
        for slug, device in found.items()
    ]
    return sorted(shared, key=lambda one: -len(one.runs))


def merged_frontier(shared: SharedDevice) -> dict[str, int]:
    """Return how many points of the frontier of all runs together are each run's, by letter."""
    slug = shared.device.slug
    points = [(run.run_label, one) for run in shared.runs for one in run.data.frontier(slug)]
    best = pareto_front([one.loss_bits for _, one in points], [one.takes_ms(slug) for _, one in points])
    return {run.run_label: sum(points[i][0] == run.run_label for i in best) for run in shared.runs}


def recipe_differences(runs: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """Return the settings that are not the same in all recipes, with each run's value."""
    flat = [flatten(_recipe(run)) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [(key, [one.get(key, UNKNOWN) for one in flat]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def _recipe(run: ComparedRun) -> Any:
    try:
        return read_yaml(run.data.provenance.recipe_yaml, "recipe", RecipeError).values
    except RecipeError:
        return {}


def flatten(value: Any, path: str = "") -> dict[str, str]:
    """Return a tree's leaves by their path: search.limits_ms -> [20, 30]; a list is a leaf."""
    if isinstance(value, Mapping) and value:
        inner = [flatten(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()]
        return {key: text for part in inner for key, text in part.items()}
    return {path: value if isinstance(value, str) else json.dumps(value, default=str)} if path else {}


def cautions(runs: Sequence[ComparedRun]) -> list[Caution]:
    """Return the figures that must not be compared, in the order in which readers meet them."""
    return [
        *_copies(runs),
        *_differing(runs, "bleu", "Test sets differ, so BLEU does not compare", _test_set),
        *_unrecorded(runs, "bleu", "test sets", lambda run: _scored(run) and run.data.corpus.test_set is None),
        *_differing(runs, "bleu", "BLEU was computed in different ways", lambda run: run.data.bleu_signature),
        *_differing(runs, "loss", "The text or its sub-words differ, so losses do not compare", _text),
        *_unrecorded(
            runs, "loss", "texts", lambda run: bool(run.data.candidates) and run.data.corpus.fingerprint is None
        ),
        *_differing(runs, "loss", "Label smoothing differs, so losses do not compare", _smoothing),
        *_differing(runs, "latency", "What was translated while timing differs, so milliseconds do not compare", _work),
        *_differing(
            runs,
            "space",
            "Search spaces differ: a frontier may lie lower because its space holds more, not because it was searched "
            "better",
            lambda run: f"{run.data.space.name} ({run.data.space.id})",
        ),
    ]


def _copies(runs: Sequence[ComparedRun]) -> list[Caution]:
    """Caution of runs with the same results: copies, or one recipe with one seed."""
    same: list[list[ComparedRun]] = []
    for run in runs:
        if run.data.candidates:
            group = next((group for group in same if _scored_alike(group[0], run)), None)
            same.append([run]) if group is None else group.append(run)
    letters = [" and ".join(run.run_label for run in group) for group in same if len(group) > 1]
    text = "hold the very same scored architectures: there is nothing to compare between them."
    return [Caution("copy", f"{one} {text}") for one in letters]


def _scored_alike(run: ComparedRun, other: ComparedRun) -> bool:
    scores, others = ([(one.architecture, one.loss_bits) for one in each.data.candidates] for each in (run, other))
    return scores == others


def comparable(found: Sequence[Caution], what: str) -> bool:
    """Return whether one kind of figure may be compared."""
    return not any(caution.what == what for caution in found)


def _differing(
    runs: Sequence[ComparedRun], what: str, text: str, value_of: Callable[[ComparedRun], str | None]
) -> list[Caution]:
    """Caution where runs differ in a value; a run without one does not take part."""
    groups: dict[str, list[str]] = {}
    for run in runs:
        if (value := value_of(run)) is not None:
            groups.setdefault(value, []).append(run.run_label)
    if len(groups) < 2:
        return []
    values = "; ".join(f"{' and '.join(letters)}: {value}" for value, letters in groups.items())
    return [Caution(what, f"{text} ({values}).")]


def _unrecorded(runs: Sequence[ComparedRun], what: str, of: str, lacks: Callable[[ComparedRun], bool]) -> list[Caution]:
    """Caution where a report does not record what its figures are of."""
    letters = [run.run_label for run in runs if lacks(run)]
    if not letters:
        return []
    return [
        Caution(
            what,
            f"Whether {of} are the same is unknown ({' and '.join(letters)}: the report does not record it; write "
            "it again with `hat-ray report RUN`).",
        )
    ]


def _scored(run: ComparedRun) -> bool:
    return any(model.bleu is not None for model in run.data.chosen)


def _test_set(run: ComparedRun) -> str | None:
    corpus = run.data.corpus
    if not _scored(run) or corpus.test_set is None:
        return None
    return f"{corpus.source_language} → {corpus.target_language}, {corpus.test_pairs:,} pairs, {corpus.test_set}"


def _text(run: ComparedRun) -> str | None:
    corpus = run.data.corpus
    if not run.data.candidates or corpus.fingerprint is None:
        return None
    return (
        f"{corpus.source_language} → {corpus.target_language}, {corpus.valid_pairs:,} validation pairs, vocabulary "
        f"{corpus.vocabulary_text}, {corpus.fingerprint[:16]}"
    )


def _smoothing(run: ComparedRun) -> str | None:
    return flatten(_recipe(run)).get("supernet.label_smoothing")


def _work(run: ComparedRun) -> str | None:
    """Return the workload of a timing; threads and runtime are part of the device."""
    shown = [f"{name} {value}" for name, value in run.data.protocol.items() if name not in ("threads", "runtime")]
    return f"{', '.join(shown)}, vocabulary {run.data.corpus.vocabulary_text}" if shown else None
