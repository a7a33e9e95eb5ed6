import pytest

from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.fleet import Node, chunks, label_fits, placements
from hat_ray.latency.measure import choose_architectures
from hat_ray.space.presets import PRESETS

PI = Node("1", "pi", {"hw": "pi4"}, {"CPU": 4, "board": 1})
BOX = Node("2", "box", {"hw": "xeon"}, {"CPU": 8, "GPU": 1})
HEAD = Node("3", "head", {}, {})


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


def test_without_selectors_every_node_with_a_cpu_times_on_its_gpu_where_it_has_one() -> None:
    found = placements([PI, BOX, HEAD], LatencyConfig())
    assert [(place.node.id, place.selector.num_gpus) for place in found] == [("1", 0), ("2", 1)]
    on_cpu = placements([PI, BOX, HEAD], LatencyConfig(accelerator="cpu"))
    assert [place.selector.num_gpus for place in on_cpu] == [0, 0]


def test_selectors_take_all_nodes_that_fit_and_one_node_may_be_a_cpu_and_a_gpu_device() -> None:
    devices = (DeviceSelector(name="all", labels={"hw": "in(pi4,xeon)"}), DeviceSelector(name="gpu", num_gpus=1))
    found = placements([PI, BOX, HEAD], LatencyConfig(devices=devices))
    assert [(place.selector.name, place.node.id) for place in found] == [("all", "1"), ("all", "2"), ("gpu", "2")]


def test_a_node_that_would_be_two_devices_is_refused() -> None:
    devices = (DeviceSelector(name="a", resource="board"), DeviceSelector(name="b", labels={"hw": "pi4"}))
    with pytest.raises(LatencyError, match="one device only, but pi fits"):
        placements([PI, BOX], LatencyConfig(devices=devices))


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_chunks_hold_every_architecture_once_in_order(size: int) -> None:
    architectures = choose_architectures(PRESETS["toy"], 10, seed=0)
    assert [a for chunk in chunks(architectures, size) for a in chunk] == architectures
