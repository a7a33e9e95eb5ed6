"""Recipes, search spaces and architectures, damaged in every way: refused in one line or read, and never anything else.

Each seed cuts, flips, repeats or swaps something. What is then read must be a value of the right kind; what is refused
must be one line. A limit on memory and on the number of values holds for each, so nothing grows.
"""

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hat_ray.errors import HatRayError
from hat_ray.recipe import load_recipe, parse_recipe, to_yaml
from hat_ray.space.hat_yaml import load_architecture, read_space, write_architecture, write_space
from hat_ray.space.presets import SPACE0, TOY
from hat_ray.storage.plain_file import decode_text

FEW, ALL = 40, 500
LEAST_READ = 1 / 80
"""Share that must still be read: a fuzz whose files are all refused at once tests nothing. Of 40 files 2 or 3 are read,
and fewer with each setting that a written recipe names."""
SEEDS = pytest.mark.parametrize("seeds", [FEW, pytest.param(ALL, marks=pytest.mark.slow)])
"""Numbers of seeds: a few by default, all of them in the slow tests."""
WORDS = [
    *("&a ", "*a", "<<: *a", "!!int ", "!!bool ", "!!binary ", "!!python/object:os.system ", "{", "}", "[", "]", ": "),
    *(
        ", ",
        "- ",
        "? ",
        "|\n",
        ">\n",
        '"',
        "'",
        "\t",
        "\n",
        "\n\n  ",
        "#",
        "%",
        "@",
        "`",
        "---\n",
        "...\n",
        "\0",
        "\x85",
    ),
    *(
        "9" * 50,
        "-1",
        "1e400",
        ".inf",
        ".nan",
        "~",
        "true",
        "0x",
        "1:2:3",
        "2020-99-99",
        "\ufeff",
        "\u2028",
        "😀",
        "=",
        "<<",
    ),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 7, 10**12, 10**39, -(10**39), 0.5, -0.0, 1e308, float("inf"), float("nan"), "", "x"),
    *(
        "x" * 300,
        "\0",
        "../../x",
        "1",
        [],
        [1],
        ["x"],
        [[]],
        [None],
        {},
        {"x": 1},
        {"x": {"y": [1, "z"]}},
        [1, "a", {}],
    ),
    *(list(range(2000)), [10**12], "toy", [1.5], {"toy": [5]}),
]


def damaged_text(text: str, rng: random.Random) -> bytes:
    """Cut, flip bits, repeat a piece, or put in what means something in YAML."""
    content = bytearray(text.encode())
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(len(content) + 1)
        how = rng.randrange(5)
        if how == 0:
            del content[place:]
        elif how == 1 and content:
            content[min(place, len(content) - 1)] ^= 1 << rng.randrange(8)
        elif how == 2:
            content[place:place] = rng.choice(WORDS).encode()
        elif how == 3:
            content[place:place] = content[place : place + rng.randrange(200)] * rng.randrange(4)
        else:
            del content[place : place + rng.randrange(20)]
    return bytes(content)


def swapped(tree: Any, rng: random.Random) -> Any:
    """Put a value of another type in the place of one value, wherever in the tree it is."""
    if not isinstance(tree, dict | list) or not tree or rng.random() < 0.15:
        return rng.choice(VALUES)
    if isinstance(tree, list):
        index = rng.randrange(len(tree))
        return [swapped(value, rng) if at == index else value for at, value in enumerate(tree)]
    chosen = rng.choice(list(tree))
    if rng.random() < 0.05:
        return {rng.choice([key, "x", 5, None, True]) if key == chosen else key: value for key, value in tree.items()}
    return {key: swapped(value, rng) if key == chosen else value for key, value in tree.items()}


def read_or_refused(read: Callable[[], object]) -> bool:
    """Return whether it was read; anything but a value or a user's mistake in one line fails."""
    try:
        read()
    except HatRayError as error:
        refusal = str(error)
    else:
        return True
    assert "\n" not in refusal
    assert 10 < len(refusal) < 2000
    return False


@pytest.fixture(scope="module")
def whole() -> dict[str, str]:
    return {name: to_yaml(load_recipe(name)) for name in ("toy", "multi30k.en-de", "wmt14.en-de")}


def recipe_of(content: bytes) -> None:
    recipe = parse_recipe(decode_text(content, "recipe", HatRayError), "recipe")
    recipe.space.build()
    assert parse_recipe(to_yaml(recipe), "again").model_dump_json() == recipe.model_dump_json()


@SEEDS
def test_a_damaged_recipe_is_read_or_refused(whole: dict[str, str], seeds: int):
    rng, read = random.Random(7), 0
    for name, text in whole.items():
        assert read_or_refused(lambda text=text: recipe_of(text.encode())), name
    tracemalloc.start()
    for seed in range(seeds):
        content = damaged_text(rng.choice(list(whole.values())), random.Random(seed))
        read += read_or_refused(lambda content=content: recipe_of(content))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    assert seeds * LEAST_READ < read < 0.9 * seeds


@SEEDS
def test_a_recipe_with_a_value_of_another_type_is_read_or_refused(whole: dict[str, str], seeds: int):
    trees, read = [yaml.safe_load(text) for text in whole.values()], 0
    for seed in range(seeds):
        rng = random.Random(seed)
        text = yaml.safe_dump(swapped(rng.choice(trees), rng), allow_unicode=True)
        read += read_or_refused(lambda text=text: recipe_of(text.encode()))
    assert seeds * LEAST_READ < read < 0.9 * seeds


@SEEDS
def test_a_recipe_cut_at_any_line_is_read_or_refused(whole: dict[str, str], seeds: int):
    lines = whole["toy"].splitlines(keepends=True)
    for end in range(0, len(lines), max(1, len(lines) // seeds)):
        read_or_refused(lambda end=end: recipe_of("".join(lines[:end]).encode()))
        read_or_refused(lambda end=end: recipe_of("".join(lines[:end] + lines[end + 1 :]).encode()))


@SEEDS
def test_a_damaged_architecture_or_space_is_read_or_refused(tmp_path: Path, seeds: int):
    texts = {
        "a.yml": write_architecture(SPACE0.largest()),
        "a.json": TOY.largest().to_json(),
        "space.yml": write_space(SPACE0),
    }
    for name, text in texts.items():
        file = tmp_path / name

        def read(file: Path = file) -> None:
            if file.name == "space.yml":
                read_space(file.read_text(), "x")
            else:
                load_architecture(file)

        file.write_text(text)
        assert read_or_refused(read)
        tree, found = yaml.safe_load(text), 0
        for seed in range(seeds // 2):
            rng = random.Random(seed)
            swap = yaml.safe_dump(swapped(tree, rng), allow_unicode=True, default_flow_style=name == "a.json")
            for content in (damaged_text(text, rng), swap.encode()):
                if name == "space.yml":  # `read_space` is given text
                    content = content.decode(errors="replace").encode()  # noqa: PLW2901
                file.write_bytes(content)
                found += read_or_refused(read)
        assert found < 0.9 * seeds, name


@SEEDS
def test_a_damaged_override_is_read_or_refused(seeds: int):
    for seed in range(seeds):
        rng = random.Random(seed)
        text = rng.choice(["search.limits_ms=[40, 80]", "seed=7", "corpus.toy={train_pairs: 5}", "space.file=null"])
        change = damaged_text(text, rng).decode(errors="replace")
        read_or_refused(lambda change=change: load_recipe("toy", [change]))
