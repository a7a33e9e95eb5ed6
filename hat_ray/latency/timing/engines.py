"""Engines brought into the state of timing, and what one repetition of the workload is on each: with PyTorch.

Engines on arrays are timed by `workload.py`, without it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from hat_ray.latency.timing.canary import CanaryMonitor
from hat_ray.latency.timing.process import steady
from hat_ray.latency.timing.protocol import Protocol as TimingProtocol
from hat_ray.latency.timing.protocol import Timing
from hat_ray.latency.timing.sensors.energy import EnergyMeter, NoMeter
from hat_ray.latency.timing.visits import repeat
from hat_ray.latency.timing.workload import (
    TranslationTime,
    Workload,
    array_translation,
    drawn,
    over_pairs,
    require_room,
)
from hat_ray.model.beam import EOS, best_continuations
from hat_ray.model.config import ModelConfig
from hat_ray.model.protocol import BeamSettings, Engine, StepwiseEngine, TopTokens, WholeEngine, evaluating
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.arrays import OnArrays
from hat_ray.space.architecture import Architecture

_NO_METER = NoMeter()


@contextmanager
def timing_state(threads: int) -> Iterator[int | None]:
    """Give this process its own torch threads, normal priority and no garbage collection; yield the niceness."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with steady() as niceness:
            yield niceness
    finally:
        torch.set_num_threads(before)


@contextmanager
def ready(model: Engine, threads: int) -> Iterator[int | None]:
    """Bring a model and this process into the state of timing; yield the niceness that holds."""
    with evaluating(model), timing_state(threads) as niceness, torch.inference_mode():
        yield niceness


def time_architecture(
    model: Engine,
    protocol: TimingProtocol,
    watch: CanaryMonitor | None = None,
    meter: EnergyMeter = _NO_METER,
) -> Timing:
    """Time a SubTransformer on its runtime and device, with a canary between where one is given."""
    with ready(model, protocol.threads) as niceness:
        return repeat(translation(model, protocol.workload), protocol, niceness, watch, meter)


def random_model(architecture: Architecture, config: ModelConfig, workload: Workload) -> SubTransformer:
    """Return a model with random weights and the workload's vocabularies."""
    source, target = workload.vocab_sizes
    return SubTransformer(architecture, source, config, target_vocab_size=target)


def translation(model: Engine, workload: Workload) -> Callable[[], TranslationTime]:
    """Return the function that does one repetition and returns its times. Its tokens are the same every time."""
    require_room(workload, model.max_positions)
    if isinstance(model, OnArrays):
        return array_translation(model.arrays, workload)
    if isinstance(model, WholeEngine):
        return over_pairs(workload, lambda one: _whole_pair(model, one))
    return over_pairs(workload, lambda one: _stepwise_pair(model, one))


def _whole_pair(model: WholeEngine, workload: Workload) -> Callable[[], TranslationTime]:
    """Return the function that translates `source_length` tokens to `target_length` by an engine's own search."""
    source, _ = drawn(workload)
    sources: list[list[int]] = source.tolist()
    search = BeamSettings(workload.beam, 1.0, workload.target_length)

    def translate() -> TranslationTime:
        begin, cpu = time.perf_counter(), time.process_time()  # its threads are its own: this one waits for them
        model.translate(sources, search, exact_length=workload.target_length)
        elapsed_ms, cpu_ms = (time.perf_counter() - begin) * 1e3, (time.process_time() - cpu) * 1e3
        return TranslationTime(elapsed_ms, cpu_ms=cpu_ms if torch.get_num_threads() == 1 else None)

    return translate


def _stepwise_pair(model: StepwiseEngine, workload: Workload) -> Callable[[], TranslationTime]:
    """Return the function that does one translation of `source_length` to `target_length`."""
    device = model.device
    rows, beam = workload.batch * workload.beam, workload.beam
    source, forced = (torch.from_numpy(array).to(device) for array in drawn(workload))
    first_rows = torch.arange(0, rows, beam, device=device)[:, None]  # (B, 1): each sentence's first row
    mark, elapsed_ms = _gpu_clock() if device.type == "cuda" else _cpu_clock()

    def translate() -> TranslationTime:
        cpu, begin = time.thread_time(), mark()
        state = model.start(source, beam)
        encoded = mark()
        scores = torch.zeros(workload.batch, beam, device=device)
        for tokens in forced:
            scores, parents = _beam_choice(model.best(tokens, state, 2 * beam), scores, first_rows)
            state.reorder(parents)
        end = mark()
        cpu_ms = (time.thread_time() - cpu) * 1e3 if device.type == "cpu" and torch.get_num_threads() == 1 else None
        return TranslationTime.of_parts(elapsed_ms(begin, encoded), elapsed_ms(encoded, end), cpu_ms)

    return translate


def _beam_choice(best: TopTokens, scores: Tensor, first_rows: Tensor) -> tuple[Tensor, Tensor]:
    """Choose the survivors: (B*beam, C), (B, beam), (B, 1) -> scores (B, beam), the parents' rows (B*beam,)."""
    totals, words, beams = best_continuations(best, scores)
    order = words.eq(EOS).int().argsort(dim=1, stable=True)[:, : scores.shape[1]]
    return totals.gather(1, order), (first_rows + beams.gather(1, order)).flatten()


def _cpu_clock() -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    return time.perf_counter, lambda begin, end: (end - begin) * 1e3


def _gpu_clock() -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """Time on the device: events in its own stream, read once the later one has passed."""

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def elapsed_ms(begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        end.synchronize()
        return float(begin.elapsed_time(end))

    return mark, elapsed_ms
