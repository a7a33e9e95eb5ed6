"""Record the golden values anew: `python -m tests.golden.record pins|values|run`.

`pins` writes `pins.json`: do this only where a change is meant to change what a seed decides. `values` writes
`values.json`, `page.json` and `cli.json` from the committed folder, with today's code: do this only where a figure is
meant to change. `run` makes the folder itself anew (about five minutes; in RUN, which stays): it is timed on this
machine, so every value changes with it. A change of the folder's format needs none of them: convert `run/`, `export/`
and keep the recorded values.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.golden import pins

HERE = Path(__file__).parent


def write(name: str, value: Any) -> None:
    """Write a file of recorded values, one value a line where that stays short."""
    HERE.joinpath(name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def record_pins() -> None:
    """Write `pins.json`."""
    asks = {f"{name}/{seed}": " ".join(pins.asks(name, seed)) for name in pins.ALGORITHMS for seed in pins.SEEDS}
    with tempfile.TemporaryDirectory() as place:
        training = pins.training(Path(place))
    write("pins.json", {"features": pins.features(), "spaces": pins.spaces(), "asks": asks, "training": training})


if __name__ == "__main__":
    {"pins": record_pins}[sys.argv[1]]()
