"""Score sentences with a COMET model in a process of its own: `python process.py`, in a folder that holds all it needs.

Reads `model.npz` or `model.bin`, `vocab.spm` and `rows.json` from the current folder, and writes `scores.json`. Needs
pymarian and what that needs, and nothing of hat-ray.

Decisions
- Marian aborts where a file is damaged, and pymarian sets up the root logger: neither may happen in the caller.
- The files have fixed names: pymarian joins its options into one line of text, in which another name could be options.
- A batch is one sentence: pymarian 1.12.42 gives a text that is padded to a multiple of four tokens another score.
- One thread: with two or more it crashes now and then, or waits for ever.
- A row stands behind all others: where texts of the last row are empty, pymarian loses it.
"""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

_KINDS = {"comet": 3, "comet-qe": 2}
"""Types of models, and the texts that each reads: source, translation, reference."""
_SETTING = re.compile(r"^(type|max-length): *[\"']?([\w-]+)", re.MULTILINE)
"""A line of a model's YAML; the file comes from outside, so that no reader of YAML opens it."""
_LONGEST = 512
_LAST = "."
_WORKSPACE_MB = 512


def score(rows: list[list[str]]) -> dict[str, Any]:
    """Return the model's type, and the score of each row of source, translation and reference."""
    [model] = [name for name in ("model.npz", "model.bin") if Path(name).exists()]
    evaluator = _opened(model, "comet", _LONGEST)
    settings = dict(_SETTING.findall(evaluator.get_model_config()))
    kind, longest = settings.get("type", "unknown"), min(_LONGEST, int(settings.get("max-length", _LONGEST)))
    if kind not in _KINDS:
        sys.exit(f"Error: the model's type is {kind}, not one of {', '.join(_KINDS)}")
    if (kind, longest) != ("comet", _LONGEST):
        del evaluator
        evaluator = _opened(model, kind, longest)
    # no text may hold a tab or an end of line: pymarian puts texts, and rows, behind one another
    lines = ["\t".join(" ".join(text.split()) for text in row[: _KINDS[kind]]) for row in [*rows, [_LAST] * 3]]
    return {"kind": kind, "scores": [float(one) for one in evaluator.evaluate(lines)][:-1]}


def _opened(model: str, kind: str, longest: int) -> Any:
    return importlib.import_module("pymarian").Evaluator.new(
        model,
        "vocab.spm",
        like=kind,
        cpu_threads=1,
        mini_batch=1,
        max_length=longest,
        workspace=_WORKSPACE_MB,
        log_level="error",
    )


if __name__ == "__main__":
    found = score(json.loads(Path("rows.json").read_text(encoding="utf-8")))
    Path("scores.json").write_text(json.dumps(found), encoding="utf-8")
