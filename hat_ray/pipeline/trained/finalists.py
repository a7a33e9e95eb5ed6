"""The finalists of a search: timed on their devices, trained on from the weights that they inherit, and halved.

`search/finals` holds the teacher and each training while they are needed; `finalists.json` is written after each rung.
A killed search resumes at the training that was under way. All finalists of a rung see the same batches.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hat_ray.core.codec import read, write
from hat_ray.core.determinism import stream_seed
from hat_ray.corpus.corpus import Corpus
from hat_ray.latency.quantities import LATENCY
from hat_ray.pipeline.stage import Context
from hat_ray.pipeline.starting import starting_subs
from hat_ray.pipeline.trained.rung_settings import rung_config
from hat_ray.pipeline.trained.teachers import keep_teacher
from hat_ray.search.candidates import Candidate
from hat_ray.search.engine.device_predictions import Measurements
from hat_ray.search.engine.finalists import (
    FILE,
    Finals,
    after_rung,
    contested,
    first_rung,
    halved,
    pick_finalists,
    unique,
)
from hat_ray.search.engine.measured import Devices
from hat_ray.search.frontier import SearchResult, Winner, summarise
from hat_ray.search.limits import Limit
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from hat_ray.train.config import INHERITED, LARGEST
from hat_ray.train.job import MODEL, TrainJob

log = logging.getLogger(__name__)

FINALS = "finals"
"""Folder of the trainings, within the search's."""
_TEACHER = "teacher"
_PICKS = 4
"""Most times that finalists which miss their limit when timed are replaced by others."""


@dataclass(frozen=True)
class FinalRungs:
    """The finalists' trainings of one search."""

    context: Context
    folder: Folder
    limits: Sequence[Limit]
    devices: Devices
    attached: frozenset[str]
    """Devices that can be timed; empty where winners are not timed."""

    def run(self, result: SearchResult) -> tuple[SearchResult, Finals]:
        """Train the finalists; return the result with the winners that this leaves, and the finalists."""
        candidates, picked = self._timed(list(result.candidates))
        done = read(self.folder, FILE, Finals) if self.folder.exists(FILE) else None
        finals = done if done is not None and done.complete else self._trained_on(picked)
        self.folder.delete(FINALS)
        found = summarise(candidates, self.limits)
        return replace(found, winners=tuple(_won(finals, winner, candidates) for winner in found.winners)), finals

    def _trained_on(self, picked: Mapping[Limit, Sequence[Candidate]]) -> Finals:
        """Train the finalists rung by rung, and drop the worse half after each."""
        config = self.context.recipe.search
        finals, alive = first_rung(picked, config.finalist_updates)
        log.info("finalists: %d architectures for %d limits", len(finals.finalists), len(finals.limits))
        homes = {one: self.folder.child(FINALS, one.id) for one in contested(alive)}
        starts = starting_subs(self.context, INHERITED, homes)
        teacher = self._teacher() if config.finalist_distillation and starts else None
        for rung, updates in enumerate(config.finalist_updates):
            jobs = {one: self._job(one, rung, updates, starts[one], teacher) for one in contested(alive)}
            if not jobs:
                break
            losses, seconds = self._train(jobs, f"training the finalists, rung {rung + 1}")
            finals = after_rung(finals, losses, seconds)
            write(self.folder, FILE, finals)
            alive, starts = halved(alive, losses), {one: job.folder for one, job in jobs.items()}
        finals = replace(finals, complete=True)
        write(self.folder, FILE, finals)
        return finals

    def _timed(self, candidates: list[Candidate]) -> tuple[list[Candidate], dict[Limit, list[Candidate]]]:
        """Time finalists, and replace those that miss their limit; return all candidates, and the finalists.

        What is still not timed after some rounds is no finalist, unless its device cannot be timed.
        """
        config, space = self.context.recipe.search, self.context.recipe.space.build()
        silent: set[str] = set()
        for _ in range(_PICKS):
            picked = pick_finalists(candidates, self.limits, config.finalists, space, config.hand_scaled)
            untimed = {
                (limit.device, one.architecture)
                for limit, some in picked.items()
                for one in some
                if limit.device in self.attached - silent and limit.device not in one.measured_ms
            }
            if not untimed:
                break
            measured = self.devices.measure(unique(sorted((a for _, a in untimed), key=lambda one: one.id)))
            candidates = [_with(one, measured) for one in candidates]
            for device, architecture in untimed:
                if architecture not in measured.get(device, {}):
                    silent.add(device)
                    log.warning("%s returned no timing of %s: predictions count", device, architecture.id)
        sure = self.attached - silent
        return candidates, {
            limit: pick_finalists(
                [one for one in candidates if limit.device not in sure or limit.device in one.measured_ms],
                *([limit], config.finalists, space, config.hand_scaled),
            )[limit]
            for limit in self.limits
        }

    def _teacher(self) -> Folder | None:
        """Return the folder of the SuperTransformer's largest architecture."""
        corpus, place = Corpus.load(self.context.folder("corpus")), self.folder.child(FINALS, _TEACHER)
        return keep_teacher(LARGEST, "search.finalist_distillation", corpus, place, self.context.folder("supernet"))

    def _job(
        self, architecture: Architecture, rung: int, updates: int, start: Folder, teacher: Folder | None
    ) -> TrainJob:
        recipe = self.context.recipe
        return TrainJob(
            architecture=architecture,
            space=recipe.space.build(),
            corpus=self.context.folder("corpus"),
            model_config=recipe.model,
            config=rung_config(recipe, updates),
            folder=self.folder.child(FINALS, architecture.id, str(rung)),
            seed=stream_seed(recipe.seed, FINALS, str(rung)),
            start=start,
            teacher=teacher,
        )

    def _train(self, jobs: Mapping[Architecture, TrainJob], label: str) -> tuple[dict[Architecture, float], float]:
        """Train one rung; return the losses in bits a token, and the seconds of all trainings."""
        with self.context.progress(label) as progress:
            results = self.context.execution.fine_tune(list(jobs.values()), progress)
        losses = {one: found.valid_loss_bits[MODEL] for one, found in zip(jobs, results, strict=True)}
        return losses, sum(found.seconds for found in results)


def _won(finals: Finals, winner: Winner, candidates: Sequence[Candidate]) -> Winner:
    """Return the winner of a limit after the finals."""
    best = finals.best(winner.limit)
    if best is None:
        return winner
    found = next(one for one in candidates if one.architecture == best)
    if found.architecture != winner.candidate.architecture:
        log.info(
            "under %s finalist %s replaces %s, whose inherited loss was the lowest",
            *(winner.limit, best.id, winner.candidate.architecture.id),
        )
    return Winner(winner.limit, found)


def _with(candidate: Candidate, measured: Mapping[str, Measurements]) -> Candidate:
    """Return a candidate with what was measured of it."""
    found = {device: of[candidate.architecture] for device, of in measured.items() if candidate.architecture in of}
    if not found:
        return candidate
    beside = {
        device: {name: value for name, value in values.items() if name != LATENCY} for device, values in found.items()
    }
    return replace(
        candidate,
        measured_ms={**candidate.measured_ms, **{device: values[LATENCY] for device, values in found.items()}},
        measured_quantities={**candidate.measured_quantities, **{name: of for name, of in beside.items() if of}},
    )
