"""Decoding on a GPU: latency by runtime, and HAT's claim that a GPU likes wide and shallow networks."""

import statistics
from dataclasses import replace

import pytest

from hat_ray.errors import HatRayError
from hat_ray.latency.timing.engines import random_model, ready, translation
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import Engine
from hat_ray.runtime.protocol import RuntimeSettings, load_engine, require_runtime
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import cost
from hat_ray.space.presets import SPACE0, TOY
from tests.gpu.place import Place, Table

pytestmark = pytest.mark.gpu
CPU_RUNTIMES = (("onnx", "fp32"), ("packed", "fp32"))
THREADS = 4


def workload_of(place: Place) -> Workload:
    return Workload(vocab_size=32_000) if place.full else Workload(source_length=4, target_length=4, vocab_size=200)


def latency_ms(place: Place, engine: Engine, workload: Workload) -> float:
    """Return the median of several translations, warmed up."""
    translate = translation(engine, workload)
    repetitions = 60 if place.full else 2
    with ready(engine, THREADS):
        for _ in range(repetitions // 3 + 1):
            translate()
        return statistics.median(translate().total_ms for _ in range(repetitions))


def engines_of(place: Place, architecture: Architecture, workload: Workload) -> dict[str, Engine]:
    """Return the engines by name: PyTorch on the device in each dtype, and what the host's CPU has."""
    found: dict[str, Engine] = {}
    cases = [("eager", "fp32", place.device), ("eager", "bf16", place.device)]
    cases += [(runtime, dtype, "cpu") for runtime, dtype in CPU_RUNTIMES]
    for runtime, dtype, device in cases:
        settings = RuntimeSettings(dtype, device, threads=THREADS)
        try:
            require_runtime(runtime, settings)
        except HatRayError:
            continue  # its package is not installed
        model = random_model(architecture, ModelConfig(), workload)
        found[f"{runtime} {dtype} on {device}"] = load_engine(model.eval(), runtime, settings)
    return found


def test_latency_by_runtime(place: Place, table: Table) -> None:
    space, workload = SPACE0 if place.full else TOY, workload_of(place)
    for name, engine in engines_of(place, space.largest(), workload).items():
        milliseconds = latency_ms(place, engine, workload)
        assert milliseconds > 0
        case = f"largest of {space.name}, batch {workload.batch}, beam {workload.beam}, {workload.target_length} words"
        table.add(f"decoding, {name}", case, f"{milliseconds:.2f} ms")


def shapes_of(place: Place) -> tuple[Architecture, Architecture]:
    """Return a wide and shallow decoder, and a narrow and deep one; in full size of equally many operations."""
    largest = (SPACE0 if place.full else TOY).largest()
    wide, narrow = ((640, 3072, 3), (512, 1024, 6)) if place.full else ((128, 256, 2), (64, 64, 4))

    def made(width: int, ffn: int, depth: int) -> Architecture:
        heads = largest.decoder.self_heads[:1] * depth
        shape = {"embed_dim": width, "ffn_dims": (ffn,) * depth, "cross_layers": (1,) * depth}
        return replace(largest, decoder=replace(largest.decoder, **shape, self_heads=heads, cross_heads=heads))

    return made(*wide), made(*narrow)


def test_what_shapes_cost_on_a_gpu_and_on_its_host(place: Place, table: Table) -> None:
    """HAT, figure 2: depth costs a GPU more than width, because a step of batch 1 waits for launches."""
    workload = workload_of(place)
    ratios = {}
    for device in dict.fromkeys((place.device, "cpu")):
        times = []
        for name, architecture in zip(("wide and shallow", "narrow and deep"), shapes_of(place), strict=True):
            model = random_model(architecture, ModelConfig(), workload).eval()
            settings = RuntimeSettings("fp32", device, threads=THREADS)
            times.append(latency_ms(place, load_engine(model, "eager", settings), workload))
            decoder = architecture.decoder
            flops = cost(architecture).flops / 1e9
            case = f"{name}: {len(decoder.ffn_dims)} layers of {decoder.embed_dim}, {flops:.2f} GFLOP"
            table.add(f"shape on {device}", case, f"{times[-1]:.2f} ms")
        ratios[device] = times[0] / times[1]
        table.add(f"shape on {device}", "wide and shallow / narrow and deep", f"{ratios[device]:.2f}")
    if place.full:
        holds = ratios["cuda"] < min(1, ratios["cpu"])
        table.add("HAT's claim", "wide and shallow pays more on the GPU", "holds" if holds else "does not hold here")
    assert all(ratio > 0 for ratio in ratios.values())
