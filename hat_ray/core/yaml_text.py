"""YAML from outside, read within bounds: what every recipe, search space and architecture file goes through.

Decisions
- PyYAML gives events one by one; their content is counted as it comes. So a file that would grow by aliases or merges,
  or that is nested too deeply, is refused at the line that goes too far, before anything is built.
- Aliases and merges are allowed and count as often as they are used. Each use is a copy: no value is shared.
- Differs from PyYAML: a date stays the text that it is; a key is text and stands once; tags are YAML's own plain ones.
"""

from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.events import AliasEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent

from hat_ray.errors import HatRayError
from hat_ray.storage.plain_file import printable

MOST_VALUES = 8_000
MOST_DEPTH = 50
MOST_DIGITS = 40

Path = tuple[str, ...]

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_SCALARS = ("str", "int", "float", "bool", "null")


@dataclass(frozen=True)
class Document:
    """The content of a YAML text, with line numbers."""

    values: Any
    lines: dict[Path, str]
    """The place of each key and list entry, such as `line 12`."""


def read_yaml(text: str, source: str, error: type[HatRayError]) -> Document:
    """Read one YAML document; raises `error` with `source`, line and key when it breaks a rule."""
    try:
        root = _Composer(text, error, source).compose()
    except yaml.YAMLError as failure:
        raise error(f"{source} is not YAML: {_reason(failure, text)}") from failure
    lines: dict[Path, str] = {}
    return Document(_build(root, (), lines), lines)


def read_mapping(text: str, source: str, error: type[HatRayError]) -> Document:
    """Read a YAML document that holds keys and values."""
    document = read_yaml(text, source, error)
    if not isinstance(document.values, dict):
        found = "nothing" if document.values is None else type(document.values).__name__
        raise error(f"{source} must hold keys and values, got {found}")
    return document


@dataclass
class _Node:
    """A value as it was composed: `content` is the value itself, a list of nodes, or a list of pairs of nodes."""

    kind: str
    line: int
    content: Any = None
    size: int = 1
    """Values that it holds, itself included, with aliases as often as they are used."""
    depth: int = 1
    finished: bool = True
    key: str | None = None
    """The key whose value a mapping expects next; None while it expects a key."""
    last: str | None = None
    """The key that a mapping had last."""
    seen: dict[str, int] = field(default_factory=dict)
    """Lines of a mapping's keys."""


class _Resolver(yaml.resolver.Resolver):
    """YAML 1.1 without dates."""


_Resolver.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in rules if tag != f"{_TAG}timestamp"]
    for letter, rules in yaml.resolver.Resolver.yaml_implicit_resolvers.items()
}


class _Composer:
    """Turns events into nodes and refuses what goes beyond the bounds."""

    def __init__(self, text: str, error: type[HatRayError], source: str) -> None:
        self._text, self._error, self._source = text, error, source
        self._anchors: dict[str, _Node] = {}
        self._open: list[_Node] = []
        self._values = 0
        self._root: _Node | None = None
        self._resolver, self._constructor = _Resolver(), yaml.constructor.SafeConstructor()

    def compose(self) -> _Node:
        documents = 0
        for event in yaml.parse(self._text, Loader=yaml.SafeLoader):
            documents += isinstance(event, yaml.DocumentStartEvent)
            if documents > 1:
                self._refuse(event, "a second document begins: keep one")
            elif isinstance(event, AliasEvent):
                self._place(self._alias(event), event)
            elif isinstance(event, ScalarEvent):
                self._place(self._anchored(event, self._scalar(event)), event)
            elif isinstance(event, SequenceStartEvent | MappingStartEvent):
                self._begin(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._end(event)
        return self._root if self._root is not None else _Node("scalar", 1)

    def _begin(self, event: SequenceStartEvent | MappingStartEvent) -> None:
        kind = "list" if isinstance(event, SequenceStartEvent) else "mapping"
        if event.tag not in (None, "!", f"{_TAG}{'seq' if kind == 'list' else 'map'}"):
            self._refuse(event, f"the tag {printable(_short(event.tag))} is not read: give plain values")
        if len(self._open) >= MOST_DEPTH:
            self._refuse(event, f"values may be nested {MOST_DEPTH} deep at most")
        node = self._anchored(event, _Node(kind, _line(event), [], finished=False))
        self._place(node, event)
        self._open.append(node)

    def _end(self, event: Any) -> None:
        node = self._open.pop()
        node.finished = True
        if self._open:
            parent = self._open[-1]
            self._measure(parent, node)
            self._check_merge(parent, event)

    @staticmethod
    def _measure(parent: _Node, node: _Node) -> None:
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)

    def _anchored(self, event: Any, node: _Node) -> _Node:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent) -> _Node:
        name = str(event.anchor)
        node = self._anchors.get(name)
        if node is None:
            self._refuse(event, f"the alias *{printable(name)} has no anchor before it")
        if not node.finished:
            self._refuse(event, f"the alias *{printable(name)} stands inside what it names, which never ends")
        if len(self._open) + node.depth > MOST_DEPTH:
            self._refuse(event, f"values may be nested {MOST_DEPTH} deep at most")
        return node

    def _place(self, node: _Node, event: Any) -> None:
        """Put a node where the innermost open list or mapping expects it, and count it."""
        self._values += node.size
        if self._values > MOST_VALUES:
            self._refuse(event, f"a file may hold {MOST_VALUES} values at most, aliases counted at each use")
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if parent.kind == "list":
            parent.content.append(node)
        elif parent.key is None:
            self._key(parent, node, event)
        else:
            parent.content[-1] = (parent.content[-1][0], node)
            parent.key = None
        if node.finished:
            self._measure(parent, node)
            self._check_merge(parent, event)

    def _key(self, parent: _Node, node: _Node, event: Any) -> None:
        merges = node.kind == "merge"
        if not merges and not (node.kind == "scalar" and isinstance(node.content, str)):
            given = f"a {node.kind}" if node.kind != "scalar" else repr(node.content)
            self._refuse(event, f"a key must be text, got {printable(given)}: put it in quotes")
        name = "<<" if merges else node.content
        before = parent.seen.setdefault(name, _line(event))
        if len(parent.seen) <= len(parent.content):
            self._refuse(event, f"the key {printable(name)} stands on line {before} and again here: keep one")
        parent.content.append((node, node))
        parent.key = parent.last = name

    def _check_merge(self, parent: _Node, event: Any) -> None:
        """Refuse a whole `<<` entry that is no mapping and no list of mappings."""
        if parent.kind != "mapping" or parent.key is not None or parent.content[-1][0].kind != "merge":
            return
        value = parent.content[-1][1]
        if any(part.kind != "mapping" for part in _merged(value)):
            self._refuse(event, "<< merges mappings only")

    def _scalar(self, event: ScalarEvent) -> _Node:
        value, tag = event.value, event.tag
        implied = self._resolver.resolve(yaml.ScalarNode, value, event.implicit)  # type: ignore[no-untyped-call]
        if tag in (None, "!"):
            tag = implied
        elif _short(tag).removeprefix("!!") not in _SCALARS:
            self._refuse(event, f"the tag {printable(_short(tag))} is not read: give plain values")
        if tag == _MERGE:
            return _Node("merge", _line(event))
        if tag == f"{_TAG}value":  # a lone `=`
            tag = f"{_TAG}str"
        return _Node("scalar", _line(event), self._plain(event, tag, value))

    def _plain(self, event: ScalarEvent, tag: str, value: str) -> Any:
        if tag == f"{_TAG}str":
            return value
        name = tag.removeprefix(_TAG)
        if name in ("int", "float") and len(value) > MOST_DIGITS:
            self._refuse(event, f"a number has {MOST_DIGITS} digits at most, got {len(value)}; text stands in quotes")
        bare = self._resolver.resolve(yaml.ScalarNode, value, (True, False)).removeprefix(_TAG)  # type: ignore[no-untyped-call]
        if bare != name and (name, bare) != ("float", "int"):
            self._refuse(event, f"{printable(value)!r} is no {name}")
        try:
            return getattr(self._constructor, f"construct_yaml_{name}")(yaml.ScalarNode(tag, value))
        except (ValueError, KeyError, OverflowError):
            self._refuse(event, f"{printable(value)!r} is no {name}")

    def _refuse(self, event: Any, rule: str) -> NoReturn:
        outer = [str(len(node.content) - 1) if node.kind == "list" else node.last for node in self._open[:-1]]
        inner = [str(len(node.content)) if node.kind == "list" else node.key for node in self._open[-1:]]
        keys = [key for key in (*outer, *inner) if key is not None]
        where = f"{printable('.'.join(keys), 40)}: " if keys else ""
        raise self._error(f"{self._source}, line {_line(event)}: {where}{rule}")


def read_scalars(text: str) -> list[str]:
    """Return the scalars of a YAML text that has no lists and no aliases, in order; raise ValueError for another text.

    Events alone are read: nothing is built, so a text of a million entries takes no more than its words.
    """
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    scalars: list[str] = []
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, ScalarEvent):
                scalars.append(event.value)
            elif isinstance(event, AliasEvent | SequenceStartEvent):
                raise ValueError("it holds more than words and their numbers: name another file")
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML ({' '.join(str(error).split())[:150]}): name another file") from error
    return scalars


def _build(node: _Node, path: Path, lines: dict[Path, str]) -> Any:
    """Return the value of a node, and note the lines of all that it holds."""
    if node.kind == "mapping":
        built = {}
        for name, (line, value) in _pairs(node).items():
            lines[(*path, name)] = f"line {line}"
            built[name] = _build(value, (*path, name), lines)
        return built
    if node.kind == "list":
        for index, entry in enumerate(node.content):
            lines[(*path, str(index))] = f"line {entry.line}"
        return [_build(entry, (*path, str(index)), lines) for index, entry in enumerate(node.content)]
    return "<<" if node.kind == "merge" else node.content


def _pairs(node: _Node) -> dict[str, tuple[int, _Node]]:
    """Return a mapping's keys with line and value; merged keys follow the mapping's own keys."""
    own = {key.content: (key.line, value) for key, value in node.content if key.kind != "merge"}
    merged: dict[str, tuple[int, _Node]] = {}
    for key, value in node.content:
        if key.kind == "merge":
            for part in _merged(value):
                merged = {**_pairs(part), **merged}
    return {**own, **{name: pair for name, pair in merged.items() if name not in own}}


def _merged(node: _Node) -> list[_Node]:
    """Return the mappings that a `<<` names."""
    return list(node.content) if node.kind == "list" else [node]


def _short(tag: str) -> str:
    return f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _reason(failure: yaml.YAMLError, text: str) -> str:
    """Return PyYAML's complaint, in one line that begins with the line number."""
    if isinstance(failure, yaml.reader.ReaderError):
        line = text.count("\n", 0, failure.position) + 1
        return f"line {line}: the character U+{int(failure.character):04X} may not stand in it"
    mark = getattr(failure, "problem_mark", None) or getattr(failure, "context_mark", None)
    words = [word for name in ("context", "problem") if (word := getattr(failure, name, None))]
    place = f"line {mark.line + 1}: " if mark is not None else ""
    return place + printable(", ".join(words) or type(failure).__name__, 200)
