"""Load on the service: throughput and the time until an answer, with 1, 8 and 64 clients, over HTTP on loopback.

Clients are threads of this process that send one sentence after another, each on a connection that it keeps. They and
the service share the machine's cores. `HAT_RAY_SERVED` names an exported model to serve instead of a small random one,
and a file of sentences beside it (`sentences.txt`) what is sent.

What the front end costs the service (`-k front_end`): the requests of many clients of one sentence each, in one worker,
which is what a replica is, through its front end and its batches, and the same sentences through the same batches
alone. There is no HTTP in it, which costs both alike: the share of a whole request is smaller.
"""

import asyncio
import http.client
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.serve.config import ServeConfig
from hat_ray.serve.model_source import ModelSource
from hat_ray.serve.requests import TextOptions
from hat_ray.serve.worker import Worker
from tests.benchmarks.paired import loss
from tests.exported import Exported, export_knowing, exported
from tests.serve.service import Running, running

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(900)]
__all__ = ["exported"]
pytest.importorskip("fastapi", reason="needs ray[serve]")
SECONDS = 10.0
BLOCK = 64
PAIRS = 60


def test_throughput_and_latency_by_number_of_clients(exported: Exported, tmp_path: Path) -> None:
    place, lines = exported.folder, list(exported.lines)
    if named := os.environ.get("HAT_RAY_SERVED"):
        place = Path(named)
        lines = (place / "sentences.txt").read_text(encoding="utf-8").split("\n")[:-1]
    for replicas in (1, 2):
        with running(place, tmp_path, "--replicas", str(replicas)) as service:
            load = os.getloadavg()[0]
            print(f"\n{place.name}, {replicas} replicas of one thread, {os.cpu_count()} cores, load {load:.1f}")
            print(f"  {'clients':>7} {'sentences/s':>12} {'p50 ms':>8} {'p99 ms':>8} {'mean batch':>11} {'failed':>7}")
            for clients in (1, 8, 64):
                _load(service, lines, clients, 2.0)
                times, failed = _load(service, lines, clients, SECONDS)
                p50, p99 = np.percentile(times, (50, 99)) * 1e3
                batch = service.ask(b"", "GET", "/health").body["mean_batch"]
                print(f"  {clients:7} {len(times) / SECONDS:12.1f} {p50:8.1f} {p99:8.1f} {batch:11} {failed:7}")
                assert not failed


def test_the_front_end_costs_little(tmp_path: Path) -> None:
    small = export_knowing(tmp_path, preset="toy")
    place, lines = small.folder, list(small.lines)
    if named := os.environ.get("HAT_RAY_SERVED"):
        place = Path(named)
        lines = (place / "sentences.txt").read_text(encoding="utf-8").split("\n")[:-1][:BLOCK]
    worker = Worker(ModelSource(str(place)), ServeConfig(wait_ms=0))
    batcher, plain, around = worker._batcher, Decoding(), TextOptions()

    async def through(front_end: bool) -> None:
        asked = [worker.translate([line], plain, around) for line in lines] if front_end else []
        raw = [batcher.run([(line, plain)]) for line in lines] if not front_end else []
        assert len(await asyncio.gather(*asked, *raw)) == len(lines)

    with asyncio.Runner() as runner:
        lost = loss(lambda: runner.run(through(False)), lambda: runner.run(through(True)), PAIRS)
        protects = worker._fronts.know_symbols
    print(f"\n{len(lines)} requests of one sentence a block, one worker of one thread, load {os.getloadavg()[0]:.1f}")
    print(f"  serve, {place.name}, front end with{'' if protects else 'out'} protection: {lost}")


def _load(service: Running, lines: list[str], clients: int, seconds: float) -> tuple[list[float], int]:
    """Return each request's seconds, and how many were not answered with a translation."""
    over = threading.Event()

    def client(number: int) -> tuple[list[float], int]:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        times, failed, place = [], 0, number * 7
        while not over.is_set():
            began = time.perf_counter()
            connection.request("POST", "/", json.dumps({"text": lines[place % len(lines)]}))
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - began)
            failed += answer.status != 200
            place += 1
        connection.close()
        return times, failed

    with ThreadPoolExecutor(clients) as pool:
        work = [pool.submit(client, number) for number in range(clients)]
        time.sleep(seconds)
        over.set()
        done = [one.result() for one in work]
    return [seconds for times, _ in done for seconds in times], sum(failed for _, failed in done)
