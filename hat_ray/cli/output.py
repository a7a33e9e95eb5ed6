"""A recipe in a command: find it and its run folder, run its stages, print."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hat_ray.core import console
from hat_ray.errors import HatRayError
from hat_ray.storage.plain_file import printable

if TYPE_CHECKING:
    from hat_ray.evaluate.evaluate import EvaluateOutput
    from hat_ray.pipeline.run_folder import StageRecord
    from hat_ray.recipe import Recipe

STUDIES = ("sweep", "ranking", "policies")
"""Stages that their own commands do, and whose whole result `--json` prints."""


def resolve(recipe: str, run: str | None, overrides: list[str] | None, data: str | None = None) -> "tuple[Recipe, str]":
    """Return the recipe and the place of its run folder; a run folder given as recipe brings both."""
    from hat_ray.recipe import find_recipe

    changes = list(overrides or [])
    if data is not None:
        if not os.path.isdir(data):
            there = "is no folder" if os.path.lexists(data) else "does not exist"
            raise HatRayError(f"--data {printable(data, 200)} {there}: name the folder that the text files stand in")
        of_tokens = find_recipe(recipe, run, changes)[0].corpus.source == "fairseq"
        key = "corpus.fairseq.folder" if of_tokens else "corpus.files.folder"
        changes.append(f"{key}={json.dumps(str(Path(data).absolute()))}")
    return find_recipe(recipe, run, changes)


def run_stages(
    recipe: str,
    run: str | None,
    overrides: list[str] | None,
    data: str | None,
    address: str | None,
    local: bool,
    as_json: bool,
    only: str | None = None,
    take_over: bool = False,
    skip_checks: bool = False,
) -> "list[StageRecord]":
    """Do one stage, or all, print what was made, and return the stages' records."""
    loaded, place = resolve(recipe, run, overrides, data)  # before the heavy imports: a mistake is reported at once
    loaded.space.build()
    from hat_ray import api
    from hat_ray.cli.closing import close_message
    from hat_ray.pipeline.kept import Kept, disk_line
    from hat_ray.pipeline.outline import stages_of
    from hat_ray.storage.folder import Folder

    done = api.run(
        loaded,
        place,
        stages=None if only is None else [only],
        cluster=address,
        local=local,
        progress=console.progress_bar,
        take_over=take_over,
        skip_checks=skip_checks,
    )
    records = [record for stage in stages_of(only) if (record := done.record(stage))]
    if as_json and only in STUDIES:
        print_json({"run": place, only: api.study_result(loaded, place, only)})
    elif as_json:
        print_json({"run": place, "stages": {record.stage: record.output for record in records}})
    elif only == "evaluate":
        from hat_ray.core.codec import from_json
        from hat_ray.evaluate.evaluate import EvaluateOutput

        for line in score_lines(from_json(EvaluateOutput, records[0].output, "the evaluation's output")):
            typer.echo(line)
    else:
        close_message(place, records)
    if disk := disk_line(Kept(Folder.at(place)).results(), place):
        console.say(disk)
    return records


def score_lines(output: "EvaluateOutput") -> list[str]:
    """Return the evaluation of a run: each model's scores, speed and memory, and the floors."""
    lines = []
    for model, evaluated in output.models.items():
        score = evaluated.score
        chrf = "" if score.chrf is None else f", chrF {score.chrf:.1f} ({score.chrf_signature})"
        if score.multi_bleu is not None:
            chrf += f", multi-bleu {score.multi_bleu:.1f} ({score.multi_bleu_signature})"
        chrf += "".join(f", {one.metric} {one.score:.1f} ({one.signature})" for one in score.others)
        memory = score.peak_memory_bytes / 2**20
        speed = score.sentences / max(score.seconds, 1e-9)
        lines.append(
            f"{model}: BLEU {score.bleu:.1f} ({score.bleu_signature}){chrf}; {speed:.1f} sentences a second, "
            f"peak memory {memory:.0f} MiB"
        )
    if floors := output.floors:
        nearest = f"the nearest training source's translation {floors.nearest_bleu:.1f}"
        lines.append(f"floors: copying the source {floors.copy_bleu:.1f} BLEU, {nearest}")
    return lines


def share_of(text: str) -> float:
    """Read a share that is written as `5%` or `0.05`; raises HatRayError for anything else."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise HatRayError(f"a share is written as 5% or 0.05 and lies between 0 and 1, got {text!r}")
    return value


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
