from collections import deque

import pytest

from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.detection import detect
from hat_ray.latency.fleet.plan import DeviceWork, Node, Placement, Silence, placements, report_of
from hat_ray.latency.timing.job import choose_architectures
from hat_ray.latency.timing.session import SessionSummary
from hat_ray.space.presets import PRESETS

PI = Node("1", "pi", {"hw": "pi4"}, {"CPU": 4, "board": 1})
BOX = Node("2", "box", {"hw": "xeon"}, {"CPU": 8, "GPU": 1})
HEAD = Node("3", "head", {}, {})
DEVICE = detect(accelerator="cpu")


def test_without_selectors_every_node_with_a_cpu_times_on_its_gpu_where_it_has_one() -> None:
    found = placements([PI, BOX, HEAD], LatencyConfig())
    assert [(place.node.id, place.selector.num_gpus) for place in found] == [("1", 0), ("2", 1)]
    on_cpu = placements([PI, BOX, HEAD], LatencyConfig(accelerator="cpu"))
    assert [place.selector.num_gpus for place in on_cpu] == [0, 0]


def test_selectors_take_all_nodes_that_fit_and_one_node_may_be_a_cpu_and_a_gpu_device() -> None:
    devices = (DeviceSelector(name="all", labels={"hw": "in(pi4,xeon)"}), DeviceSelector(name="gpu", num_gpus=1))
    found = placements([PI, BOX, HEAD], LatencyConfig(devices=devices))
    assert [(place.selector.name, place.node.id) for place in found] == [("all", "1"), ("all", "2"), ("gpu", "2")]


def test_a_gpu_that_is_asked_for_is_not_looked_for_on_nodes_without_one() -> None:
    found = placements([PI, BOX, HEAD], LatencyConfig(accelerator="cuda"))
    assert [(place.node.id, place.selector.num_gpus) for place in found] == [("2", 1)]
    with pytest.raises(LatencyError, match=r"no node of the cluster has a GPU, which latency\.accelerator asks for"):
        placements([PI, HEAD], LatencyConfig(accelerator="cuda"))


@pytest.mark.parametrize(
    ("resources", "threads", "exclusive", "seats", "cpus"),
    [
        ({"CPU": 8, "GPU": 4}, 1, True, 4, 2),
        ({"CPU": 8, "GPU": 4}, 1, False, 4, 1),
        ({"CPU": 8, "GPU": 4}, 3, True, 2, 4),  # four would have too few CPUs
        ({"CPU": 1, "GPU": 4}, 2, True, 1, 1),
        ({"CPU": 0, "GPU": 2}, 1, True, 2, 0),
    ],
)
def test_each_gpu_of_a_node_is_a_seat_of_its_own_and_cpus_are_shared(
    resources: dict[str, float], threads: int, exclusive: bool, seats: int, cpus: int
) -> None:
    node = Node("4", "many", {}, resources)
    on_gpu, on_cpu = (Placement(DeviceSelector(num_gpus=count), node) for count in (1, 0))
    own = LatencyConfig(threads=threads, exclusive=exclusive)
    assert on_gpu.seats(threads) == seats
    assert on_gpu.cpus(own) == cpus
    assert on_cpu.seats(threads) == 1
    assert on_gpu.has_seat([on_gpu] * (seats - 1), threads)
    assert not on_gpu.has_seat([on_gpu] * seats, threads)
    assert not on_gpu.has_seat([on_cpu], threads)  # never two devices of one node at once
    assert not on_cpu.has_seat([on_gpu], threads)
    assert on_cpu.has_seat([Placement(DeviceSelector(), PI)], threads)


PI_RUNTIMES = [("eager", "fp32"), ("onnx", "fp32"), ("onnx", "int8")]


def test_a_node_may_be_several_devices_that_differ_in_runtime_dtype_or_threads() -> None:
    entries = [{"name": "pi4", "runtime": name, "dtype": dtype} for name, dtype in PI_RUNTIMES]
    config = LatencyConfig.model_validate({"devices": [{**one, "labels": {"hw": "pi4"}} for one in entries]})
    found = placements([PI, BOX], config)
    assert [place.node.id for place in found] == ["1", "1", "1"]
    assert len({place.key for place in found}) == 3
    own = [config.of(place.selector) for place in found]
    assert [(one.runtime, one.dtype) for one in own] == PI_RUNTIMES


def test_an_entrys_own_runtime_leaves_the_recipes_dtype_behind() -> None:
    config = LatencyConfig(runtime="onnx", dtype="int8", threads=2)
    assert config.of(DeviceSelector(threads=3)).model_dump() == config.model_dump() | {"threads": 3}
    assert config.of(DeviceSelector(runtime="eager")).dtype == "fp32"
    assert config.of(None) is config


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([{"runtime": "onnx", "dtype": "bf16"}], "runtime onnx computes in"),
        (
            [{"runtime": "onnx", "num_gpus": 1}],
            "runs on the CPU, not on cuda: take runtime eager, or set num_gpus to 0",
        ),
        (
            [{"dtype": "int8", "num_gpus": 1}],
            "runtime auto computes in bf16 or fp32 on a GPU, got dtype int8: take one of these, or set num_gpus to 0",
        ),
        ([{"name": "a", "threads": 1}, {"name": "a"}], "needs its own name, got 'a' twice for auto fp32"),
        ([{"name": "a"}, {"name": "a", "runtime": "onnx", "resource": "x"}], "needs its own name, got 'a' 2 times"),
    ],
)
def test_devices_that_cannot_be_are_refused(devices: list[dict[str, object]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LatencyConfig.model_validate({"devices": devices})


def test_a_node_that_would_be_two_devices_is_refused() -> None:
    devices = (DeviceSelector(name="a", resource="board"), DeviceSelector(name="b", labels={"hw": "pi4"}))
    with pytest.raises(LatencyError, match="one device only, but pi fits"):
        placements([PI, BOX], LatencyConfig(devices=devices))


def work(count: int = 10, chunk: int = 4, retries: int = 1) -> DeviceWork:
    return DeviceWork(DEVICE, deque(choose_architectures(PRESETS["toy"], count, seed=0)), chunk, retries)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("members", [1, 2, 5])
def test_every_architecture_is_handed_out_once_in_order_and_the_last_chunks_are_small(size: int, members: int) -> None:
    this = work(10, size)
    taken = []
    while this.pending:
        taken.append(this.take(members))
    assert [a for chunk in taken for a in chunk] == choose_architectures(PRESETS["toy"], 10, seed=0)
    assert max(map(len, taken)) <= size
    assert len(taken[-1]) == 1 or members == 1
    assert this.doing == 10


def test_a_lost_chunk_comes_back_first_and_in_order() -> None:
    this = work()
    lost, kept = this.take(1), this.take(1)
    this.give_back(lost)
    assert this.contested
    assert this.doing == len(kept)
    assert this.take(1) == lost


def test_a_device_is_given_up_when_it_is_lost_too_often_without_timing_anything() -> None:
    this = work(chunk=2, retries=1)
    for _ in range(3):  # each time something was timed in between
        this.give_back(this.take(1))
        assert not this.over
        chunk = this.take(1)
        this.credit(len(chunk), SessionSummary(len(chunk), 0, 1.0))
    left = len(this.pending)
    this.give_back(this.take(1))
    assert not this.given_up
    this.give_back(this.take(1))
    assert this.given_up
    assert report_of(this).unfinished == left > 0


def test_utilisation_is_the_share_of_its_time_that_a_device_worked() -> None:
    this = work()
    this.manned_s = 8.0
    while this.pending:
        this.credit(len(this.take(1)), SessionSummary(1, 0, 1.0))
    assert report_of(this).utilisation == pytest.approx(this.busy_s / 8)
    assert this.over


def test_a_member_that_reports_rows_is_never_lost_however_long_its_chunk_takes() -> None:
    silence, now = Silence(600.0, 0.0), 0.0
    for pause_s in [20.0] * 2000 + [590.0, 4000.0, 30.0, 12_000.0]:  # a board whose rows take longer and longer
        assert not silence.is_lost(now + pause_s)
        now += pause_s
        silence.hear(now)
    assert not silence.is_lost(now + 12_000)
    assert silence.is_lost(now + 20 * 12_000 + 1)


def test_a_member_that_has_shown_no_pace_is_lost_after_the_least_silence() -> None:
    silence = Silence(600.0, 100.0)
    assert (silence.is_lost(700.0), silence.is_lost(701.0)) == (False, True)
    assert silence.seconds(701.0) == 601.0
