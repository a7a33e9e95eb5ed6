"""Record the golden values anew: `python -m tests.golden.record pins|values|run [RUN]`.

`pins` writes `pins.json`: do this only where a change is meant to change what a seed decides. `values` writes
`values.json`, `page.json` and `cli.json` from the committed folder, with today's code: do this only where a figure is
meant to change. `run` makes the folder itself anew (about five minutes; in RUN, which stays): it is timed on this
machine, so every value changes with it. A change of the folder's format needs none of them: convert `run/`, `export/`
and keep the recorded values.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hat_ray.core import codec
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from tests.golden import figures, pins

HERE = Path(__file__).parent
HAT_RAY = (sys.executable, "-m", "hat_ray.cli")


def write(name: str, value: Any) -> None:
    """Write a file of recorded values, one line for each that has a name of its own."""
    HERE.joinpath(name).write_text(_lines(value, 2) + "\n", encoding="utf-8")


def _lines(value: Any, levels: int) -> str:
    if not levels or not isinstance(value, dict):
        return json.dumps(_short(value), ensure_ascii=False)
    inner = ",\n".join(f"{json.dumps(key)}: {_lines(one, levels - 1)}" for key, one in value.items())
    return f"{{\n{inner}\n}}"


def _short(value: Any) -> Any:
    """Round floats to eight digits: they are compared to four."""
    if isinstance(value, dict):
        return {key: _short(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_short(one) for one in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def record_pins() -> None:
    """Write `pins.json`."""
    asks = {f"{name}/{seed}": " ".join(pins.asks(name, seed)) for name in pins.ALGORITHMS for seed in pins.SEEDS}
    with tempfile.TemporaryDirectory() as place:
        training = pins.training(Path(place))
    write("pins.json", {"features": pins.features(), "spaces": pins.spaces(), "asks": asks, "training": training})


def record_values() -> None:
    """Write `values.json`, `page.json` and `cli.json`."""
    with tempfile.TemporaryDirectory() as folder:
        place = figures.copied(Path(folder))
        write("values.json", figures.figures(place))
        write("page.json", figures.sections(place))
        write("cli.json", {command: figures.printed(place, command) for command in figures.COMMANDS})


def record_run(place: str) -> None:
    """Make a run in `place` where there is none, and keep of it what the tests read."""
    run, export = Path(place), HERE / "export"
    subprocess.run([*HAT_RAY, "run", str(HERE / "recipe.yaml"), "--local", "--run", place], check=True, timeout=3600)
    shutil.rmtree(HERE / "run", ignore_errors=True)
    shutil.rmtree(export, ignore_errors=True)
    _rewrite(
        run / "retrain" / _first_winner(run) / "model.json", '"max_positions": 1024', '"max_positions": 96'
    )  # small
    subprocess.run([*HAT_RAY, "export", place, "--out", str(export)], check=True, timeout=600)
    shutil.copytree(run, HERE / "run", ignore=lambda folder, names: [n for n in names if _is_left_out(folder, n)])
    subprocess.run([*HAT_RAY, "latency", "compact", str(HERE / "run" / "latency" / "table")], check=True, timeout=600)
    shutil.copy(sorted((run / "search" / "winners").glob("*.yml"))[0], HERE / "architecture.yml")
    _rewrite(HERE / "run" / "latency" / "stage.json", place, "runs/golden")  # no path of this machine
    kept = _first_winner(run)
    for model in (HERE / "run" / "retrain").glob("*/model.safetensors"):
        if model.parent.name != kept:
            model.unlink()


def _rewrite(file: Path, old: str, new: str) -> None:
    """Replace a text in a sealed JSON file."""
    value = json.loads(file.read_text(encoding="utf-8").replace(old, new))
    del value["sealed_sha256"]
    codec.write(Folder.at(file.parent), file.name, value)


def _first_winner(run: Path) -> str:
    """Return the id of the retrained model that is exported and translated with."""
    output = json.loads((run / "retrain" / "stage.json").read_text(encoding="utf-8"))["output"]
    return Architecture.from_dict(output["selected"][0]["architecture"]).id


def _is_left_out(folder: str, name: str) -> bool:
    """Leave out what no test reads: weights of many megabytes in all, training text, the page, who held the folder."""
    heavy = name in {"checkpoints", "tensorboard", "lease", "rounds", "report"} or name.startswith(
        ("supernet.s", "report.", "frontier.")
    )
    return heavy or name.endswith(".arrow")


if __name__ == "__main__":
    {"pins": record_pins, "values": record_values, "run": record_run}[sys.argv[1]](*sys.argv[2:])
