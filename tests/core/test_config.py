"""Settings that decide a result, in the form that is fingerprinted."""

from typing import ClassVar

from hat_ray.core.config import StageConfig, canonical


class Inner(StageConfig):
    later: ClassVar[frozenset[str]] = frozenset({"young"})
    old: int = 1
    young: str = ""


class Outer(StageConfig):
    later: ClassVar[frozenset[str]] = frozenset({"added"})
    execution_only: ClassVar[frozenset[str]] = frozenset({"workers"})
    workers: int = 2
    added: int | None = None
    one: Inner = Inner()
    several: tuple[Inner, ...] = ()


def test_a_later_field_at_its_default_leaves_the_settings_as_they_were() -> None:
    config = Outer(several=(Inner(old=3),))
    before = {"one": {"old": 1}, "several": [{"old": 3}]}
    assert config.result_settings() == before
    assert canonical(config) == {"workers": 2, **before}


def test_a_later_field_that_is_set_is_part_of_the_settings_at_any_depth() -> None:
    config = Outer(added=0, one=Inner(young="x"), several=(Inner(), Inner(young="y")))
    assert config.result_settings() == {
        "added": 0,
        "one": {"old": 1, "young": "x"},
        "several": [{"old": 1}, {"old": 1, "young": "y"}],
    }
