"""Which nodes train, search and score: a recipe's rules, and what a node is."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hat_ray.core.placement import ClusterConfig, HostFacts, label_fits, left_out, unfit_nodes
from hat_ray.core.processor import read_cpu
from hat_ray.errors import RecipeError
from hat_ray.recipe import load_recipe

GIB = 1 << 30
SERVER = HostFacts("x86_64", 64 * GIB)
LARGE_PI = HostFacts("aarch64", 8 * GIB)
"""In a container, where it cannot know that it is a board."""
BOARD = HostFacts("aarch64", 8 * GIB, "Raspberry Pi 4 Model B Rev 1.4")
SMALL = HostFacts("x86_64", 2 * GIB)
GRAVITON = HostFacts("aarch64", 48 * GIB)


@pytest.mark.parametrize(
    ("rule", "value", "fits"),
    [
        ("pi4", "pi4", True),
        ("pi4", "pi5", False),
        ("pi4", None, False),
        ("!pi4", "pi5", True),
        ("!pi4", None, True),
        ("!pi4", "pi4", False),
        ("in(pi4, pi5)", "pi5", True),
        ("in(pi4,pi5)", None, False),
        ("!in(pi4,pi5)", "pi4", False),
        ("!in(pi4,pi5)", "xeon", True),
    ],
)
def test_labels_are_judged_by_rays_rules(rule: str, value: str | None, fits: bool) -> None:
    assert label_fits(rule, value) is fits


def unfit(*nodes: HostFacts | None, gpus: str = "") -> dict[str, str]:
    """Return the reasons of nodes that are called a, b, c, ...; `gpus` names those with one."""
    return unfit_nodes(dict(zip("abcdef", nodes, strict=False)), frozenset(gpus))


def test_boards_small_and_silent_nodes_are_left_out_where_there_are_others() -> None:
    assert unfit(SERVER, BOARD, LARGE_PI, SMALL, None, GRAVITON) == {
        "b": "it is a board, Raspberry Pi 4 Model B Rev 1.4",
        "c": "it is aarch64 with 8.0 GiB of memory, the largest is x86_64 with 64.0 GiB",
        "d": "it has 2.0 GiB of memory, less than 4 GiB",
        "e": "it gave no answer",
    }


def test_many_boards_are_not_more_than_one_server() -> None:
    assert set(unfit(LARGE_PI, LARGE_PI, LARGE_PI, LARGE_PI, LARGE_PI, SERVER)) == set("abcde")


@pytest.mark.parametrize("alike", [BOARD, LARGE_PI, SMALL, SERVER])
def test_nodes_of_one_kind_all_work(alike: HostFacts) -> None:
    assert unfit(alike, alike) == {}


def test_a_smaller_machine_of_another_architecture_works_where_it_has_a_gpu() -> None:
    assert set(unfit(SERVER, LARGE_PI, LARGE_PI, gpus="c")) == {"b"}
    assert set(unfit(GRAVITON, HostFacts("x86_64", 16 * GIB))) == {"b"}  # whichever the larger one is
    assert unfit(SERVER, HostFacts("aarch64", None)) == {}  # a memory that is not known is no reason


@dataclass(frozen=True)
class Node:
    id: str
    labels: dict[str, str] = field(default_factory=dict)
    resources: dict[str, float] = field(default_factory=dict)


def test_a_rule_of_the_recipe_takes_the_place_of_what_a_node_is() -> None:
    nodes = [Node("a", {"pool": "big"}), Node("b", {"hw": "pi4"}), Node("c", {}, {"trainer": 1})]
    unfit = {"b": "it is a board, Raspberry Pi 5"}
    config = ClusterConfig.model_validate({"train": {"labels": {"pool": "big"}}, "search": {}})
    why = "cluster.train is {'labels': {'pool': 'big'}}"
    assert left_out(config, "train", nodes, unfit) == {"b": why, "c": why}
    assert left_out(config, "search", nodes, unfit) == {}
    assert left_out(config, "score", nodes, unfit) == unfit
    config = ClusterConfig.model_validate({"train": {"resource": "trainer"}, "search": {"labels": {"hw": "!pi4"}}})
    assert set(left_out(config, "train", nodes, unfit)) == {"a", "b"}
    assert set(left_out(config, "search", nodes, unfit)) == {"b"}


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("{labels: {hw: pi 4}}", "a label's rule reads a, !a, in(a,b) or !in(a,b), got 'pi 4'"),
        ("{labels: {hw: in()}}", "got 'in()'"),
        ("{labels: {h w: pi4}}", "a label's name has letters, digits and .-_ between them, got 'h w'"),
        ("{pool: big}", "unknown key cluster.train.pool"),
    ],
)
def test_a_rule_that_ray_would_not_take_is_a_mistake_of_the_recipe(value: str, line: str) -> None:
    with pytest.raises(RecipeError, match=r"cluster\.train") as refused:
        load_recipe("toy", [f"cluster.train={value}"])
    assert line in str(refused.value)


def test_a_board_is_known_by_its_device_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "proc" / "device-tree" / "model"
    tree.parent.mkdir(parents=True)
    for machine, model, board in (
        ("aarch64", "Raspberry Pi 5 Model B Rev 1.0\0", "Raspberry Pi 5 Model B Rev 1.0"),
        ("aarch64", "linux,dummy-virt\0", ""),  # a virtual machine
        ("ppc64le", "IBM,9009-22A\0", ""),  # a server
    ):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        tree.write_text(model)
        assert read_cpu(tmp_path).board == board
