"""Named plug-ins: hat-ray's own, those of installed packages by entry point, and classes spelled `package:Class`.

Decisions
- A name is checked, and its light facts are read, without an import: help, the schema and a recipe's mistakes wait for
  no heavy library. Facts of a foreign plug-in are read from the plug-in itself, which imports it.
- A recipe is a file from outside, and a name in it may import code. Only what is installed here can be named: an entry
  point of an installed package, or `package:Class` where an installed package provides `package`. Modules of the
  standard library, of the current folder, or of a folder beside the recipe are refused before anything is imported.
- A plug-in that cannot be imported is named in one line when it is asked for, and disturbs no other.
- A package cannot take a name of hat-ray's own. A name that two packages register is refused when it is asked for.
"""

import importlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, PackageNotFoundError, distributions, entry_points, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar, cast
from urllib.parse import unquote, urlparse

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hat_ray.core.config import nearest_name
from hat_ray.errors import PluginError

PluginT = TypeVar("PluginT")
FactsT = TypeVar("FactsT")

_SPELLED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


@dataclass(frozen=True)
class Member(Generic[FactsT]):
    """A plug-in of hat-ray's own: its place, as `module:attribute`, and its facts without an import."""

    target: str
    facts: FactsT


class Registry(Generic[PluginT, FactsT]):
    """The plug-ins of one kind by name.

    `setting` is the key of the recipe that holds a name, and stands in every message. `requires` lists the attributes
    that every plug-in must have. `facts_of` reads the light facts from a foreign plug-in.
    """

    def __init__(
        self,
        setting: str,
        group: str,
        members: Mapping[str, Member[FactsT]],
        facts_of: Callable[[PluginT], FactsT],
        requires: Iterable[str] = (),
    ) -> None:
        self.setting, self.group = setting, group
        self._members, self._facts_of, self._requires = dict(members), facts_of, tuple(requires)
        self._added: dict[str, PluginT] = {}
        self._loaded: dict[str, PluginT] = {}

    @property
    def own_names(self) -> tuple[str, ...]:
        """Return the names of hat-ray's own plug-ins."""
        return tuple(self._members)

    @property
    def names(self) -> tuple[str, ...]:
        """Return every registered name: hat-ray's own, then those added here, then those of installed packages."""
        return tuple(dict.fromkeys([*self._members, *self._added, *sorted(self._entry_points)]))

    def add(self, name: str, plugin: PluginT) -> None:
        """Register a plug-in for this process alone; a package registers one by an entry point."""
        if name in self.names:
            raise PluginError(f"{self.setting} {name} is registered already: choose another name")
        self._require_complete(name, plugin)
        self._added[name] = plugin

    def require(self, name: str) -> str:
        """Return a name that `load` will look up; refuse any other in one line. Import nothing."""
        if name in self._members or name in self._loaded or name in self._added or name in self._entry_points:
            return name
        if ":" in name:
            return self._require_installed(name)
        known = list(self.names)
        near = nearest_name(name, known)
        hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
        raise PluginError(f"{self.setting} knows no {name!r}; {hint} (or package:Class of an installed package)")

    def facts(self, name: str) -> FactsT:
        """Return the facts of a plug-in; only a foreign one is imported for them."""
        self.require(name)
        own = self._members.get(name)
        return own.facts if own else self._facts_of(self.load(name))

    def load(self, name: str) -> PluginT:
        """Return a plug-in, imported at the first call."""
        self.require(name)
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> PluginT:
        if name in self._members:
            return cast(PluginT, imported(self._members[name].target))
        if name in self._added:
            return self._added[name]
        target, package = self._foreign(name)
        try:
            plugin = imported(target)
        except Exception as error:  # the package's own code, which may raise anything
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise PluginError(f"{self.setting} {name} cannot be loaded from {package} ({why}): mend it") from error
        self._require_complete(name, plugin)
        return cast(PluginT, plugin)

    def _foreign(self, name: str) -> tuple[str, str]:
        """Return the target of a foreign plug-in, and the package that it comes from."""
        points = self._entry_points.get(name)
        if points is None:
            return name, f"package {_top(name)}"
        if len({point.value for point in points}) > 1:
            packages = ", ".join(sorted(package_of(point) for point in points))
            raise PluginError(f"{self.setting} {name} is registered by several packages ({packages}): uninstall one")
        return points[0].value, package_of(points[0])

    def _require_complete(self, name: str, plugin: object) -> None:
        lacking = [attribute for attribute in self._requires if not hasattr(plugin, attribute)]
        if lacking:
            raise PluginError(f"{self.setting} {name} is no such plug-in: it lacks {', '.join(lacking)}")

    def _require_installed(self, name: str) -> str:
        if not _SPELLED.fullmatch(name):
            raise PluginError(f"{self.setting} must be a registered name or package:Class, got {name!r}")
        if not _is_installed(_top(name)):
            raise PluginError(
                f"{self.setting} {name} must come from an installed package, and none provides {_top(name)}: install it"
            )
        return name

    @cached_property
    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            if point.name not in self._members:
                found.setdefault(point.name, []).append(point)
        return found


@dataclass(frozen=True)
class NameIn:
    """Check a setting against a registry: `Annotated[str, NameIn(ALGORITHMS)]`. The schema shows the known names."""

    registry: Registry[Any, Any]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self.registry.names)}, {"pattern": ":"}], "type": "string"}

    def _check(self, name: str) -> str:
        try:
            return self.registry.require(name)
        except PluginError as error:
            raise ValueError(str(error).removeprefix(f"{self.registry.setting} ")) from error


def imported(target: str) -> object:
    """Return the object that `module:attribute` names."""
    module, _, attribute = target.partition(":")
    found: object = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def _top(target: str) -> str:
    return target.partition(":")[0].partition(".")[0]


def package_of(point: EntryPoint) -> str:
    """Return the name and version of the package that an entry point comes from."""
    return f"package {point.dist.name} {point.dist.version}" if point.dist else "an unnamed package"


def _is_installed(package: str) -> bool:
    """Return whether an installed distribution provides a top-level package; import nothing."""
    if find_spec(package) is None:
        return False
    return package in packages_distributions() or _is_editable(package)


def _is_editable(package: str) -> bool:
    """Return whether a package lies in the source folder of a distribution that is installed in place."""
    spec = find_spec(package)
    if spec is None or (spec.origin and not spec.has_location):  # built in or frozen: of the standard library
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    roots = [root for distribution in distributions() if (root := _source_folder(distribution.read_text))]
    return any(Path(place).resolve().is_relative_to(root) for place in places for root in roots)


def _source_folder(read_text: Callable[[str], str | None]) -> Path | None:
    """Return the folder that a distribution was installed from in place, as PEP 610 records it."""
    try:
        record = json.loads(read_text("direct_url.json") or "{}")
        url = urlparse(record["url"]) if record.get("dir_info", {}).get("editable") else None
    except (OSError, ValueError, KeyError, AttributeError, PackageNotFoundError):
        return None
    return Path(unquote(url.path)).resolve() if url and url.scheme == "file" else None
