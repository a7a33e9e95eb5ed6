"""A timing kit and an export on another processor: an emulated Cortex-A72, as in a Raspberry Pi 4.

HAT_RAY_AARCH64_ROOT names a Debian root for arm64 with Python 3.11 and, in /opt/site, numpy, ONNX Runtime and
sentencepiece. It takes root, and QEMU registered for its programs. One way to make it:

    apt-get install qemu-user-static binfmt-support debootstrap
    debootstrap --arch=arm64 --variant=minbase --include=python3 bookworm ROOT
    pip install --target ROOT/opt/site --platform manylinux_2_28_aarch64 --only-binary :all: \
        numpy onnxruntime sentencepiece
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hat_ray.api import run_recipe
from hat_ray.core.codec import from_json
from hat_ray.latency.kit.bring import import_part
from hat_ray.latency.table.table import read_table
from hat_ray.pipeline.timing import write_kit_of
from hat_ray.recipe import load_recipe
from hat_ray.search.winners import SearchOutput
from tests.exported import export_once
from tests.pipeline.conftest import TINY
from tests.waiting import wait_for

ROOT = os.environ.get("HAT_RAY_AARCH64_ROOT", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not ROOT or os.geteuid() != 0, reason="needs root and HAT_RAY_AARCH64_ROOT, an arm64 Debian"),
]
CPU = "".join(
    f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
    for core in range(4)
)
MODEL = "Hardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
QUICK = ("latency.samples=12", "latency.canary_tolerance=50", "latency.calibration_s=0", "latency.budget_s=0.05")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Path]:
    """A folder of the root, seen there as /opt/test."""
    folder = Path(ROOT, "opt", "test")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def there(cpuinfo: Path, *arguments: str, **more: object) -> "subprocess.Popen[str]":
    """Start Python on the board, in a mount name space of its own that ends with it."""
    cpuinfo.write_text(CPU + MODEL)
    mounts = 'mount -t proc proc "$1/proc" && mount --bind "$2" "$1/proc/cpuinfo" && cd / && shift 2 && exec "$@"'
    python = ["env", "-i", "PYTHONPATH=/opt/site", "QEMU_CPU=cortex-a72", "LANG=C.UTF-8", "/usr/bin/python3"]
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        mounts,
        "board",
        ROOT,
        str(cpuinfo),
        "chroot",
        ROOT,
        *python,
        *arguments,
    ]
    return subprocess.Popen(command, text=True, **more)  # type: ignore[call-overload, no-any-return]


def test_a_kit_is_timed_killed_resumed_imported_and_its_device_searched_for(board: Path, tmp_path: Path) -> None:
    write_kit_of(load_recipe(TINY, [*QUICK, "latency.visits=4"]), "nowhere", board / "kit", "pi")
    measure = "/opt/test/kit/measure.py"
    first = there(tmp_path / "cpuinfo", measure)
    wait_for(lambda: sum(len(part.read_bytes().splitlines()) for part in board.glob("kit/part-*")) > 6, 300)
    first.send_signal(signal.SIGKILL)
    first.wait(60)
    second = there(tmp_path / "cpuinfo", measure, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = second.communicate(timeout=600)
    assert second.returncode == 0, said
    [part] = board.glob("kit/part-*")
    import_part(tmp_path / "table", part)
    rows = read_table(tmp_path / "table")
    assert len({row.architecture for row in rows}) == len(rows) == 12
    [slug] = {row.device.slug for row in rows}
    assert slug == "pi-cortex-a72-neon-1t-onnx-fp32"
    changes = [f"latency.table={tmp_path / 'table'}", f"latency.devices=[{{table: {slug}}}]"]
    records = {one.stage: one for one in run_recipe(load_recipe(TINY, changes), str(tmp_path / "run"), local=True)}
    found = from_json(SearchOutput, records["search"].output, "output")
    assert found.winners
    assert {winner.limit.device for winner in found.winners} == {slug}


def test_an_export_translates_there_as_here(
    board: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    exported = export_once(tmp_path_factory, "onnx")
    shutil.copytree(exported.folder, board / "exported")
    lines = "\n".join(exported.lines[:20]) + "\n"
    (tmp_path / "lines").write_text(lines)
    with (tmp_path / "lines").open() as source:
        process = there(tmp_path / "cpuinfo", "/opt/test/exported/translate.py", stdin=source, stdout=subprocess.PIPE)
        ours, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    command = [sys.executable, str(exported.folder / "translate.py")]
    here = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=600, check=True).stdout
    assert ours == here
    assert len(here.splitlines()) == 20
