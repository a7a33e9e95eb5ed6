"""Candidates of earlier runs, which a search does not score again."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

from hat_ray.errors import SearchError
from hat_ray.search.candidates import EARLIER, Candidate, CandidateTable
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

logger = logging.getLogger(__name__)


def table_at(place: str | Folder) -> CandidateTable:
    """Return the candidates table of a run folder, or of a folder that holds one; raise SearchError where none is."""
    folder = Folder.at(place)
    if folder.exists("run.json"):
        folder = folder.child("search")
    table = CandidateTable(folder)
    if not (folder.exists("candidates.parquet") or folder.exists("parts")):
        raise SearchError(f"{place} holds no candidates: name a run folder whose search was begun")
    return table


def earlier_candidates(places: Sequence[str], space: SearchSpace, scored_by: str) -> list[Candidate]:
    """Read the candidates of earlier runs that were scored by `scored_by`: this SuperTransformer and validation set.

    Raises SearchError for a run of another SuperTransformer: its losses do not compare.
    """
    found: dict[Architecture, Candidate] = {}
    for place in places:
        candidates = table_at(place).read()
        ours = [
            one
            for one in candidates
            if one.scored_by == scored_by and math.isfinite(one.loss_bits) and not one.estimated
        ]
        if not ours:
            raise SearchError(f"search.warm_start {place} cannot be used: {_why(candidates)}")
        fitting = [one for one in ours if space.contains(one.architecture)]
        for one in fitting:
            found.setdefault(one.architecture, replace(one, round=EARLIER, measured_ms={}, measured_quantities={}))
        logger.info("%s: %d of %d candidates are reused", place, len(fitting), len(candidates))
        if len(fitting) < len(ours):
            logger.warning("%s: %d candidates lie outside this search space", place, len(ours) - len(fitting))
    return list(found.values())


def _why(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "it holds no candidates"
    if not any(one.scored_by for one in candidates):
        return "its table does not say which SuperTransformer scored its candidates: search there again"
    return "another SuperTransformer or validation set scored its candidates, and losses of two do not compare"
