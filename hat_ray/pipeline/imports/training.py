"""HAT's training keys as settings of a section: `supernet` of the SuperTransformer, `retrain` of a SubTransformer.

Decisions
- Keys that a file leaves out mean fairseq's defaults, where those are not hat-ray's.
- With cosine, fairseq's `max-lr` is the highest rate and its `lr` the last; with inverse_sqrt `lr` is the highest.
- fairseq takes every GPU of its machine for `update-freq` batches each; hat-ray's `accumulate` is their product.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hat_ray.errors import RecipeError
from hat_ray.pipeline.imports.keys import FAIRSEQ_DEFAULTS, OF_TRAINING
from hat_ray.storage.plain_file import printable

_SCHEDULES = ("cosine", "inverse_sqrt")
_CRITERIA = ("label_smoothed_cross_entropy", "cross_entropy")


@dataclass
class Ledger:
    """Every key of the files: the settings that it became, or why none takes it."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Values by dotted key."""
    mapped: dict[str, str] = field(default_factory=dict)
    """Key and value of a file, and the settings that they became."""
    unmapped: dict[str, str] = field(default_factory=dict)
    """Key and value of a file, and the reason."""

    def put(self, source: str, key: str, value: Any, settings: Mapping[str, Any]) -> None:
        """Note what a key became, by dotted settings.

        Raises RecipeError where another file says otherwise, and for a value that YAML cannot hold.
        """
        for name, one in settings.items():
            if not _is_plain(one):
                kind = type(one).__name__
                raise RecipeError(f"{source}: {key} must be text, a number or a list of them, got {kind}: correct it")
            if self.settings.get(name, one) != one:
                raise RecipeError(
                    f"{source}: {key} {shown(value)} makes {name} {shown(one)}, another file makes it "
                    f"{shown(self.settings[name])}: give files of one experiment"
                )
            self.settings[name] = one
        self.mapped[f"{source}: {key} {shown(value)}"] = ", ".join(
            f"{name} {shown(one)}" for name, one in settings.items()
        )

    def leave(self, source: str, key: str, value: Any, reason: str) -> None:
        """Note why no setting takes a key."""
        self.unmapped[f"{source}: {key} {shown(value)}"] = reason


def _is_plain(value: Any) -> bool:
    """Report whether YAML holds a value as it is: a checkpoint's arguments may also be tensors or objects."""
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


def shown(value: Any) -> str:
    """Return a value for one line."""
    return printable(str(value), 60)


def fraction(value: Any, key: str, source: str) -> float:
    """Return a number of HAT's YAML; raise RecipeError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(f"{source}: {key} must be a number, got {shown(value)}")
    return float(value)


def map_training(values: Mapping[str, Any], section: str, source: str, gpus: int | None, ledger: Ledger) -> set[str]:
    """Map the training keys of one file; return those that were seen to."""
    given = {**FAIRSEQ_DEFAULTS, **values}
    seen = set(OF_TRAINING)
    for key, name in OF_TRAINING.items():
        if key in given and given[key] is not None and not _is_unset(key, given[key]):
            ledger.put(source, key, given[key], {f"{section}.{name}": given[key]})
    ledger.put(
        source, "adam-betas", given["adam-betas"], {f"{section}.adam_betas": _betas(given["adam-betas"], source)}
    )
    seen |= {"adam-betas", *_map_schedule(given, section, source, ledger), *_map_loss(given, section, source, ledger)}
    return seen | _map_batches(given, section, source, gpus, ledger)


def _is_unset(key: str, value: Any) -> bool:
    return key in ("keep-last-epochs", "max-update") and type(value) is int and value <= 0


def _betas(value: Any, source: str) -> list[float]:
    """Read `(0.9, 0.98)`, which HAT's files write as text."""
    try:
        first, second = ast.literal_eval(value) if isinstance(value, str) and len(value) < 100 else value
        return [float(first), float(second)]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise RecipeError(
            f"{source}: adam-betas must be two numbers such as (0.9, 0.98), got {shown(value)}"
        ) from error


def _map_schedule(given: Mapping[str, Any], section: str, source: str, ledger: Ledger) -> set[str]:
    name, rates = given.get("lr-scheduler", "fixed"), given.get("lr", 0.25)
    if name not in _SCHEDULES:
        ledger.leave(source, "lr-scheduler", name, f"a schedule is {' or '.join(_SCHEDULES)}: set {section}.schedule")
        return {"lr-scheduler", "lr", "max-lr", "warmup-init-lr"}
    if isinstance(rates, list | tuple) and len(rates) != 1:
        raise RecipeError(f"{source}: lr must be one rate with {name}, got {shown(rates)}")
    lr = fraction(rates[0] if isinstance(rates, list | tuple) else rates, "lr", source)
    warm_up = given.get("warmup-init-lr", -1)
    begin = fraction(warm_up, "warmup-init-lr", source)
    if name == "cosine":
        if "max-lr" not in given:
            raise RecipeError(f"{source}: the schedule cosine needs max-lr, its highest rate: add it")
        start = lr if begin < 0 else begin
        most = fraction(given["max-lr"], "max-lr", source)
        ledger.put(source, "max-lr", given["max-lr"], {f"{section}.lr": most})
        ledger.put(source, "lr", given["lr"], {f"{section}.min_lr": lr})
    else:
        start = max(begin, 0.0)
        ledger.put(source, "lr", given.get("lr", rates), {f"{section}.lr": lr})
        if "warmup-updates" not in given:
            ledger.put(source, "warmup-updates", "4000 (fairseq's default)", {f"{section}.warmup_updates": 4000})
    ledger.put(source, "lr-scheduler", name, {f"{section}.schedule": name})
    ledger.put(source, "warmup-init-lr", warm_up, {f"{section}.warmup_init_lr": start})
    return {"lr-scheduler", "lr", "max-lr", "warmup-init-lr"}


def _map_loss(given: Mapping[str, Any], section: str, source: str, ledger: Ledger) -> set[str]:
    name = given.get("criterion", "cross_entropy")
    if name in _CRITERIA:
        given_smoothing = given.get("label-smoothing", 0) if name == _CRITERIA[0] else 0.0
        smoothing = fraction(given_smoothing, "label-smoothing", source)
        ledger.put(source, "criterion", name, {f"{section}.label_smoothing": smoothing})
    else:
        ledger.leave(source, "criterion", name, f"a loss is {' or '.join(_CRITERIA)}: set {section}.label_smoothing")
    return {"criterion", "label-smoothing"}


def _map_batches(given: Mapping[str, Any], section: str, source: str, gpus: int | None, ledger: Ledger) -> set[str]:
    """Map `update-freq` with the number of GPUs, and half precision."""
    each = given.get("update-freq", 1)
    each = each[0] if isinstance(each, list | tuple) and len(each) == 1 else each
    if type(each) is not int:
        raise RecipeError(
            f"{source}: update-freq must be one whole number, got {shown(each)}: name the one of most epochs"
        )
    world = given.get("distributed-world-size")
    count = gpus or (world if type(world) is int and world > 0 else 1)
    what = f"{each} on {count} GPU{'s' if count > 1 else ''}" + (
        "" if gpus or world else " (fairseq takes all: --gpus N)"
    )
    ledger.put(source, "update-freq", what, {f"{section}.accumulate": each * count})
    if gpus:
        precision = "fp16" if given.get("fp16") else "fp32"
        settings = {f"{section}.workers": gpus, f"{section}.use_gpu": True, f"{section}.precision": precision}
        ledger.put(source, "fp16", given.get("fp16", False), settings)
    elif "fp16" in given:
        ledger.leave(source, "fp16", given["fp16"], f"this import is for CPUs: --gpus N, or set {section}.precision")
    return {"update-freq", "distributed-world-size", "fp16"}
