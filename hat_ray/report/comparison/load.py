"""Compare the reports of several runs: read them, wherever they are, and write one page."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hat_ray.errors import DeniedError, HatRayError, RunError
from hat_ray.report.comparison.page import comparison_page
from hat_ray.report.comparison.runs import ComparedRun, cautions, devices_of, run_label
from hat_ray.report.comparison.to_json import comparison_to_json
from hat_ray.report.render import FIGURES, read_report
from hat_ray.storage.folder import Folder
from hat_ray.storage.places import is_uri

DEFAULT_OUT = "comparison.html"


def compare_runs(places: Sequence[str], out: str) -> dict[str, Any]:
    """Write the page that compares runs to `out`, a path or URI; return what it shows as JSON values.

    Raises RunError for a folder that is no run, a run without a report, a run named twice, and a target that cannot be
    written.
    """
    folder, name = _target(out)
    runs = read_runs(places)
    page = comparison_page(runs)
    try:
        folder.write_text(name, page)
    except (HatRayError, DeniedError) as error:
        raise RunError(f"cannot write {out} ({error}): name another file with --out") from error
    return {"page": folder.place_of(name), **comparison_to_json(runs, devices_of(runs), cautions(runs))}


def read_runs(places: Sequence[str]) -> list[ComparedRun]:
    """Read each run's figures, in the order given."""
    folders = [_folder(place) for place in places]
    seen: dict[str, str] = {}
    for place, folder in zip(places, folders, strict=True):
        key = str(Path(folder.uri).resolve()) if folder.is_local else folder.uri
        if key in seen:
            raise RunError(f"a run is compared with others, and {place} is the same run as {seen[key]}: name it once")
        seen[key] = place
    return [_read(run_label(i), place, folder) for i, (place, folder) in enumerate(zip(places, folders, strict=True))]


def _folder(place: str) -> Folder:
    """Return the folder of a run: a path, a URI, or the name of a recipe whose run stands in runs/."""
    folder, named = Folder.at(place), Folder.at(Path("runs") / place) if not is_uri(place) else None
    for one in (folder, named):
        if one is not None and one.exists("run.json"):
            return one
    there = folder.exists()
    why = "is no run folder: it holds no run.json" if there else "does not exist"
    raise RunError(f"{place} {why}; name folders that `hat-ray run` made, such as runs/toy")


def _read(run_label_: str, place: str, folder: Folder) -> ComparedRun:
    report = folder.child("report")
    if not report.exists(FIGURES):
        raise RunError(f"{place} has no report yet: do `hat-ray report {shlex.quote(place)}` first")
    try:
        return ComparedRun(run_label_, folder.name or place, folder.uri, read_report(report))
    except (HatRayError, ValueError) as error:
        raise RunError(f"{place}: {error}: do `hat-ray report {shlex.quote(place)}` again") from error


def _target(out: str) -> tuple[Folder, str]:
    """Split a target into its folder and its file; refuse a folder."""
    place = Folder.at(out)
    path = out.partition("?")[0] if is_uri(out) else out
    if not path or path.endswith("/") or (place.is_local and Path(place.uri).is_dir()):
        raise RunError(f"--out must name a file, got the folder {out}: try {path.rstrip('/')}/{DEFAULT_OUT}")
    return Folder.of_file(out)
