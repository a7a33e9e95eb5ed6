"""Lays a package that is not hat-ray into a folder, as an installer does: a module, and its .dist-info."""

from pathlib import Path

SEARCH = '''
from pydantic import BaseModel

from hat_ray.search.algorithms.base import RoundRobin
from hat_ray.search.algorithms.registry import AlgorithmOptions
from hat_ray.search.engine.archive import Proposal


class CoinOptions(AlgorithmOptions):
    draws: int = 300


class CoinState(BaseModel):
    in_vain: bool


class CoinSearch:
    """Everything by hand: draws until an architecture is new and keeps a limit."""

    State, Options = CoinState, CoinOptions

    def __init__(self, problem, options, rng):
        self.space, self.limits, self.rng, self.draws = problem.space, problem.limits, rng, options.draws
        self.in_vain = False

    exhausted = property(lambda self: self.in_vain)
    repeats = property(lambda self: 0)

    def ask(self, archive, left):
        for _ in range(self.draws):
            one = self.space.sample(self.rng)
            if one not in archive.proposals and any(archive.keeps(one, limit) for limit in self.limits):
                return Proposal(one, "coin")
        self.in_vain = True
        return None

    def tell(self, archive, scored):
        pass

    def predictions_changed(self, archive):
        self.in_vain = False

    def state(self):
        return CoinState(in_vain=self.in_vain)

    def restore(self, state):
        self.in_vain = state.in_vain


class ShySearch(RoundRobin):
    """The limits by turns: a mutation of the best, or of the fastest."""

    def find(self, archive, limit):
        return self.breeder.near(archive, limit, archive.best(limit, 1))


class Stubborn(CoinSearch):
    """Breaks the contract: proposes the fastest again and again."""

    def ask(self, archive, left):
        return Proposal(archive.fastest[self.limits[0].device], "coin")
'''


def install(folder: Path, package: str, source: str, entry_points: str = "") -> None:
    """Install a package of one module; `entry_points` is the text of its entry_points.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{package}.py").write_text(source)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "top_level.txt").write_text(f"{package}\n")
    (info / "entry_points.txt").write_text(entry_points)
