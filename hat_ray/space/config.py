"""Which search space a recipe uses: a preset, a HAT YAML file, or either with some dimensions replaced.

The table of dimensions makes the recipe's keys: each dimension is a setting.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, create_model

from hat_ray.core.config import StageConfig
from hat_ray.errors import SpaceError
from hat_ray.space.dimension import Dimension
from hat_ray.space.dimensions import DIMENSIONS
from hat_ray.space.hat_yaml import read_space
from hat_ray.space.presets import preset
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.plain_file import read_text


class _Preset(StageConfig):
    preset: str = "toy"
    """Name of a built-in space: toy, small, space0 (HAT, WMT), space1 (HAT, IWSLT), hat-latency, deep-shallow."""
    file: str | None = None
    """Path of a HAT SuperTransformer YAML whose search-space keys are used instead of a preset."""


def _setting(dimension: Dimension) -> Any:
    kind = str if dimension.words else int
    return tuple[kind, ...] | None, Field(default=None, description=dimension.description)  # type: ignore[valid-type]


if TYPE_CHECKING:
    _Choices = _Preset
else:
    _Choices = create_model("_Choices", __base__=_Preset, **{one.name: _setting(one) for one in DIMENSIONS})


class SpaceConfig(_Choices):
    """A search space by name or file; each dimension that is set here replaces that one of the preset."""

    later: ClassVar[frozenset[str]] = frozenset(
        ("alike_layers", *(one.name for one in DIMENSIONS if one.absent is not None))
    )

    qkv_dim: int | None = None
    """Query-key-value width of every attention, the same for all architectures."""
    alike_layers: bool | None = None
    """All layers of a side make the same choices, as Transformers of other programs do: Marian trains no others."""

    def build(self) -> SearchSpace:
        """Return the search space; raise SpaceError when a name, file or choice is wrong."""
        base = self._from_file(self.file) if self.file else preset(self.preset)
        before = {
            **{one.name: base.choices.get(one.name, one.unnamed) for one in DIMENSIONS},
            "qkv_dim": base.qkv_dim,
            "alike_layers": base.alike_layers,
        }
        given = {name: getattr(self, name) for name in before}
        changes = {name: value for name, value in given.items() if value not in (None, before[name])}
        return base.replaced(name=f"{base.name}-changed", **changes) if changes else base

    @staticmethod
    def _from_file(path: str) -> SearchSpace:
        text = read_text(path, "search space", SpaceError)
        return read_space(text, Path(path).stem, path)
