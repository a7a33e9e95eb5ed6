"""A folder of a stranger: a module for each name that Python could import, which leaves a mark when it is executed."""

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

_SPY = """
import sys
with open({marks!r} + __name__, "a") as mark:
    mark.write(" ".join(getattr(sys, "argv", ["?"]))[:200] + "\\n")
path = sys.path[:]
sys.path[:] = [place for place in path if place not in ("", {folder!r})]
del sys.modules[__name__]  # and go on as if nothing had happened, so that the next one shows itself too
try:
    __import__(__name__)
finally:
    sys.path[:] = path
"""


class Canary:
    """A folder full of such modules, and the marks that they left elsewhere."""

    def __init__(self, folder: Path, marks: Path, besides: tuple[str, ...] = ()) -> None:
        """Fill `folder`; names of `besides` are left out."""
        self.folder, self.marks = folder, marks
        folder.mkdir(parents=True, exist_ok=True)
        marks.mkdir(parents=True, exist_ok=True)
        body = _SPY.format(marks=f"{marks}/", folder=str(folder))
        for name in names():
            if name not in besides:
                (folder / f"{name}.py").write_text(body)

    def caught(self) -> dict[str, list[str]]:
        """Return the modules that were executed, each with the processes that did."""
        return {mark.name: sorted(set(mark.read_text().splitlines())) for mark in sorted(self.marks.iterdir())}


def names() -> list[str]:
    """Return the modules of Python and of every installed package, and what is imported only where it is installed."""
    installed = {name.partition("/")[0].removesuffix(".py") for name in packages_distributions()}
    found = {*sys.stdlib_module_names, *installed, "mlflow", "pynvml", "ctranslate2", "usercustomize", "hat_ray"}
    return sorted(name for name in found if name.isidentifier() and name != "__main__")
