"""The base of every stage's configuration: frozen, typed, and closed to unknown keys."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidatorFunctionWrapHandler, field_validator

MOST_NUMBER = (1 << 53) - 1


class StageConfig(BaseModel):
    """Settings of one stage. Subclasses stand beside the stage that owns them; `recipe.py` composes them.

    Every field carries a description with its unit: it becomes the recipe's JSON schema and the command line's help.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    execution_only: ClassVar[frozenset[str]] = frozenset()
    """Fields that decide how or where the work is done, but not its result: changing them redoes nothing."""

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that are younger than results on disk: at their default they change no fingerprint."""

    @field_validator("*")
    @classmethod
    def _within_what_json_holds(cls, value: Any) -> Any:
        """Refuse whole numbers beyond the exact range of JSON; a field that takes memory has a bound of its own."""
        if isinstance(value, int) and abs(value) > MOST_NUMBER:
            raise ValueError(f"a whole number is at most {MOST_NUMBER}")
        return value

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_truth_value_for_a_number(cls, given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Refuse `true` and `false` where a number is meant: pydantic would take them for 1 and 0."""
        taken = handler(given)
        for path, value in _taken_for_numbers(given, taken):
            what = f"{path} " if path else ""
            raise ValueError(f"{what}must be a number, not {str(value).lower()}")
        return taken

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that decide the result, as plain JSON values."""
        plain: dict[str, Any] = _without_later(self, self.model_dump(mode="json", exclude=set(self.execution_only)))
        return plain


def _without_later(value: Any, plain: Any) -> Any:
    """Return the plain form of a value without the `later` fields that have their default, at any depth."""
    if isinstance(value, StageConfig):
        young = {name for name in value.later if getattr(value, name) == type(value).model_fields[name].default}
        return {name: _without_later(getattr(value, name), one) for name, one in plain.items() if name not in young}
    if isinstance(value, list | tuple):
        return [_without_later(*pair) for pair in zip(value, plain, strict=True)]
    return plain


def _taken_for_numbers(given: Any, taken: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """Yield the truth values within `given` that became numbers in `taken`, with the path to each."""
    if isinstance(given, bool):
        if isinstance(taken, int | float) and not isinstance(taken, bool):
            yield path, given
    elif isinstance(given, Mapping):
        if isinstance(taken, Mapping):
            for key in given.keys() & taken.keys():
                yield from _taken_for_numbers(given[key], taken[key], f"{path}.{key}".strip("."))
        elif isinstance(taken, tuple) and len(taken) == 1:  # one where a list may stand
            yield from _taken_for_numbers(given, taken[0], path)
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple) and len(given) == len(taken):
        for one, other in zip(given, taken, strict=True):
            yield from _taken_for_numbers(one, other, path)


def nearest_name(name: str, known: list[str]) -> str | None:
    """Return the known name that looks most like `name`, or None when nothing comes near."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return matches[0] if matches else None


def similar_names(name: str, known: list[str], cutoff: float = 0.45) -> list[str]:
    """Return up to three known names that look like `name`, the nearest first."""
    return difflib.get_close_matches(name, known, n=3, cutoff=cutoff)


def canonical(config: StageConfig) -> dict[str, Any]:
    """Return a config as plain JSON values, the form that is fingerprinted."""
    plain: dict[str, Any] = _without_later(config, config.model_dump(mode="json"))
    return plain
