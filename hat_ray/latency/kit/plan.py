"""The plan of a timing kit: which architectures a board times, and how. Needs numpy and the standard library.

    kit.json       the plan, and the SHA-256 of every other file of the kit
    graphs.zip     for each architecture encoder.onnx, decoder.onnx and weights.json, the shapes of its weights

Decisions
- Weights are drawn on the board: their values do not matter for speed. A kit of 200 architectures of the space "toy"
  has 2 MB so; with weights it would have 1.5 GB.
- The kit's id is the SHA-256 of its plan, which names all files: a file that was changed is noticed before anything is
  timed. It is no signature: take a kit from where you would take a program.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from hat_ray.errors import LatencyError
from hat_ray.latency.timing.protocol import Protocol
from hat_ray.latency.timing.workload import Workload

PLAN, GRAPHS = "kit.json", "graphs.zip"
FORMAT = 1
_LARGEST_PLAN = 1 << 28  # bytes


@dataclass(frozen=True)
class Plan:
    """What a board times."""

    hat_ray: str
    """The version that wrote the kit."""
    name: str
    """The user's name for the board, or empty."""
    space_id: str
    dtype: str
    quantisation: str
    protocol: Protocol
    canary_tolerance: float
    calibration_s: float
    canary: str
    """Id of the architecture that is the canary."""
    architectures: Mapping[str, Any]
    """Each architecture as plain JSON, by its id."""
    order: Sequence[str]
    """Their ids in the order of their timing: what is begun first is the smallest, the largest, then draws."""
    least_onnxruntime: str
    """The lowest version that multiplies as the fleet's."""
    files: Mapping[str, str]
    """SHA-256 of every file, by its path in the kit."""

    @property
    def id(self) -> str:
        """The kit's id: equal for equal plans and files."""
        return hashlib.sha256(canonical(plan_to_json(self)).encode()).hexdigest()


def canonical(value: object) -> str:
    """Return the one JSON text of a value; raises ValueError for a number that is not finite."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain JSON values, without its id."""
    plain = {one.name: getattr(plan, one.name) for one in fields(plan)}
    protocol = {one.name: getattr(plan.protocol, one.name) for one in fields(Protocol)}
    protocol["workload"] = {one.name: getattr(plan.protocol.workload, one.name) for one in fields(Workload)}
    return {"format": FORMAT, **plain, "protocol": protocol}


def read_plan(kit: Path) -> Plan:
    """Read a kit's plan and check all its files; raises LatencyError that names the first one that was changed."""
    try:
        with (kit / PLAN).open("rb") as file:
            value = json.loads(file.read(_LARGEST_PLAN))
        named = value.pop("id")
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise LatencyError(f"{kit / PLAN} is missing or damaged ({_line(error)}): copy the kit again") from error
    if hashlib.sha256(canonical(value).encode()).hexdigest() != named:
        raise LatencyError(f"{kit / PLAN} was changed or damaged: copy the kit again")
    if value.pop("format", None) != FORMAT:
        raise LatencyError(f"{kit / PLAN} is a kit of another format than {FORMAT}: write it again")
    try:
        protocol = value.pop("protocol")
        workload = Workload(**protocol.pop("workload"))
        plan = Plan(**value, protocol=Protocol(workload, **protocol))
    except (TypeError, LookupError, AttributeError) as error:
        raise LatencyError(f"{kit / PLAN} is no plan ({_line(error)}): write the kit again") from error
    for name, digest in plan.files.items():
        _check(kit, name, digest)
    return plan


def _check(kit: Path, name: str, digest: str) -> None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts:
        raise LatencyError(
            f"{kit / PLAN} names a file outside of the kit, {name!r}: take the kit from its author again"
        )
    try:
        found = sha256_of(kit / name)
    except OSError as error:
        raise LatencyError(f"{kit / name} cannot be read ({error.strerror}): copy the kit again") from error
    if found != digest:
        raise LatencyError(f"{kit / name} was changed or damaged: copy the kit again")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(error: object) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
