"""YAML from outside: what is read, what is refused and in which words, and that nothing grows."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import hat_ray
from hat_ray.core.yaml_text import MOST_DEPTH, MOST_DIGITS, MOST_VALUES, read_mapping, read_yaml
from hat_ray.errors import SpaceError


def values(text: str) -> Any:
    return read_yaml(text, "my.yaml", SpaceError).values


LEAVES = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(max_size=12)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


@settings(max_examples=150)
@given(TREES, st.booleans())
def test_plain_values_are_read_as_pyyaml_reads_them(tree: Any, flow: bool):
    text = yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True)
    assert values(text) == yaml.safe_load(text)


def test_each_value_knows_its_line():
    document = read_mapping("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n", "my.yaml", SpaceError)
    assert document.lines == {
        ("a",): "line 1",
        ("b",): "line 2",
        ("b", "0"): "line 3",
        ("b", "1"): "line 4",
        ("b", "1", "c"): "line 4",
        ("b", "1", "d"): "line 5",
    }


def test_aliases_and_merges_within_bounds_are_copies():
    read = values("base: &b {x: 1, y: [1, 2]}\nsame: *b\nmore: {<<: *b, x: 5}\nboth: {<<: [*b, {x: 9, z: 3}]}\n")
    assert read["same"] == {"x": 1, "y": [1, 2]}
    assert read["more"] == {"x": 5, "y": [1, 2]}
    assert read["both"] == {"x": 1, "y": [1, 2], "z": 3}
    read["same"]["y"].append(3)
    assert read["base"]["y"] == read["more"]["y"] == [1, 2]


def test_a_date_stays_text_and_a_tag_that_fits_is_read():
    assert values("{a: 2020-99-99, b: !!str 5, c: !!int '5', d: !!float 5, f: =}") == {
        **{"a": "2020-99-99", "b": "5", "c": 5, "d": 5.0, "f": "="}
    }


def laughs(use: str) -> str:
    lines = [f"a0: &a0 {'{k: v}' if '<<' in use else '[x, x]'}"]
    lines += [f"a{n}: &a{n} {use % ','.join([f'*a{n - 1}'] * 9)}" for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (laughs("[%s]"), r"line 5: a4\.\d: a file may hold 8000 values at most, aliases counted at each use"),
        (laughs("{<<: [%s]}"), r"line 5: a4\.<<\.\d: a file may hold 8000 values"),
        (f"a: {'[' * 10_000}", rf"line 1: a\.0\.0.*\.\.\.: values may be nested {MOST_DEPTH} deep at most"),
        (f"a: {'{b: ' * 10_000}", rf"line 1: a\.b\.b.*: values may be nested {MOST_DEPTH} deep"),
        (f"{'- ' * 10_000}x", "nested 50 deep"),
        ("a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30, "line 2: b.*nested 50 deep"),
        ("".join(f"k{n}: 1\n" for n in range(MOST_VALUES)), rf"line {MOST_VALUES // 2}: .*8000 values at most"),
        ("a: &a {b: *a}", r"line 1: a\.b: the alias \*a stands inside what it names, which never ends"),
        ("a: &a\n  <<: *a\n", r"line 2: a\.<<: the alias \*a stands inside"),
        ("a: 1\nb:\n  - *c\n", r"line 3: b\.0: the alias \*c has no anchor before it"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key a stands on line 1 and again here: keep one"),
        ("a:\n  b: 1\n  'b': 2\n", "line 3: a: the key b stands on line 2 and again here"),
        ("a:\n  - {b: 1, b: 1}\n", r"line 2: a\.0: the key b stands on line 2 and again"),
        ("? [a, b]\n: 1\n", "line 1: a key must be text, got a list"),
        ("? {a: b}\n: 1\n", "line 1: a key must be text, got a mapping"),
        ("a:\n  3090: 1\n", "line 2: a: a key must be text, got 3090: put it in quotes"),
        ("a: {on: 1}\n", "line 1: a: a key must be text, got True"),
        ("~: 1\n", "line 1: a key must be text, got None"),
        (f"a: {'9' * 5000}\n", f"line 1: a: a number has {MOST_DIGITS} digits at most, got 5000"),
        (f"a: 1.{'9' * 5000}\n", "line 1: a: a number has 40 digits at most, got 5002"),
        (f"a: {':'.join(['59'] * 4000)}\n", "line 1: a: a number has 40 digits at most"),
        ("a: 0b_\n", "line 1: a: '0b_' is no int"),
        ("a: [0, !!bool maybe]\n", r"line 1: a\.1: 'maybe' is no bool"),
        ("a: !!int 5.5\n", "line 1: a: '5.5' is no int"),
        ("a: !!float x\n", "line 1: a: 'x' is no float"),
        ("a: !!null x\n", "line 1: a: 'x' is no null"),
        ("a: !!timestamp 2020-01-01\n", "line 1: a: the tag !!timestamp is not read"),
        ("a: !!binary aGFsbG8=\n", "line 1: a: the tag !!binary is not read"),
        ("a: !!set {b}\n", "line 1: a: the tag !!set is not read"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1: a: the tag !!python/object/apply:os.system is not read"),
        ("a: {<<: 1}\n", "line 1: a: << merges mappings only"),
        ("a: &a [1]\nb: {<<: [*a]}\n", "line 2: b: << merges mappings only"),
        ("a: 1\n--- \nb: 2\n", "line 2: a second document begins"),
        ("a: [1\nb: 2\n", "is not YAML: line 2: "),
        ("a: 1\nb: \x07\n", r"is not YAML: line 2: the character U\+0007 may not stand in it"),
        ("a: *" + "b" * 90_000, r"the alias \*b{80}\.\.\. has no anchor"),
    ],
)
def test_what_breaks_a_rule_is_refused_in_one_short_line(text: str, message: str):
    with pytest.raises(SpaceError, match=message) as refusal:
        read_yaml(text, "my.yaml", SpaceError)
    said = str(refusal.value)
    assert said.startswith("my.yaml")
    assert "\n" not in said
    assert len(said) < 300


def test_nothing_is_composed_past_the_bound(monkeypatch: pytest.MonkeyPatch):
    """The events of a file that is too large are not all asked for: the count stops the reading."""
    asked = 0
    parse = yaml.parse

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal asked
        for event in parse(*arguments, **named):
            asked += 1
            yield event

    monkeypatch.setattr(yaml, "parse", counted)
    with pytest.raises(SpaceError, match="8000 values"):
        read_yaml("[" + "x," * 60_000 + "]", "my.yaml", SpaceError)
    assert MOST_VALUES < asked < MOST_VALUES + 10


def test_a_document_without_keys_is_refused():
    for text, found in (("", "nothing"), ("- 1", "list"), ("x", "str")):
        with pytest.raises(SpaceError, match=f"my.yaml must hold keys and values, got {found}"):
            read_mapping(text, "my.yaml", SpaceError)


def test_no_other_module_reads_yaml():
    package = Path(hat_ray.__file__).parent
    reading = re.compile(r"yaml\.(safe_load|load|full_load|unsafe_load|compose|parse|scan)\b")
    found = [file.name for file in package.rglob("*.py") if reading.search(file.read_text(encoding="utf-8"))]
    assert found == ["yaml_text.py"]
