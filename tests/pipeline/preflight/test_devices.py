"""What limits need of the devices: names that are timed, and quantities that are measured; on a cluster too."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hat_ray.cli import app
from hat_ray.errors import CheckError
from hat_ray.latency.detection import detect
from hat_ray.pipeline.preflight.check import Finding, Machine, Situation
from hat_ray.pipeline.preflight.devices import check_named_devices, check_quantities, check_runtimes
from hat_ray.recipe import load_recipe

TINY = str(Path(__file__).parents[1] / "tiny.yaml")
BOARD = Machine("board", 4, model="Raspberry Pi 4 Model B", id="a", counts_energy=False)
SERVER = Machine("rack", 4, model="Intel(R) Xeon(R) CPU E5-2640 v4 @ 2.4GHz", id="b", counts_energy=True)


def cluster(*machines: Machine, may_grow: bool = False) -> Situation:
    return Situation(("latency", "search"), None, machines, cluster=True, may_grow=may_grow)


def named(situation: Situation, *settings: str) -> list[Finding]:
    return list(check_named_devices(load_recipe(TINY, list(settings)), situation))


def measured(situation: Situation, *settings: str) -> list[Finding]:
    return list(check_quantities(load_recipe(TINY, list(settings)), situation))


def test_limits_name_this_machine_by_its_id_and_every_device_has_some() -> None:
    here = Situation(("latency", "search"), None)
    slug = detect(accelerator="cpu").slug
    part = slug.rpartition("-1t")[0]
    assert named(here, "latency.accelerator=cpu", f"search.limits_ms={{{slug}: [5]}}") == []
    assert named(here, "latency.accelerator=cpu", f"search.limits_ms={{{part}: [5]}}") == []
    (verdict, line), (_, second) = named(here, "latency.accelerator=cpu", f"search.limits_ms={{{slug}x: [5]}}")
    assert verdict == "failure"
    assert line == f"search.limits_ms must name devices that are timed here, {slug}, got {slug}x: did you mean {slug}?"
    assert f"got none for {slug}" in second
    assert named(replace(here, committed=False), "search.limits_ms={pi4: [5]}")[0][0] == "warning"


def test_limits_name_nodes_of_the_cluster() -> None:
    both = "search.limits={raspberry-pi-4: {latency_ms: 9}, intel-xeon-e5-2640-v4-avx2-1t-eager-fp32: {latency_ms: 3}}"
    assert named(cluster(BOARD, SERVER), both) == []
    only = "search.limits={intel-xeon-e5: {latency_ms: 3}}"
    assert named(cluster(SERVER), only) == []
    [(verdict, line)] = named(cluster(BOARD, SERVER), only)
    assert (verdict, "got none for raspberry-pi-4-model-b" in line) == ("failure", True)
    findings = named(cluster(BOARD, SERVER, may_grow=True), "search.limits_ms={raspberry-pi-5: [4]}")
    assert findings[0][0] == "warning"
    assert "got raspberry-pi-5: did you mean raspberry-pi-4-model-b?" in findings[0][1]
    assert named(cluster(BOARD, replace(SERVER, model="")), "search.limits_ms={pi: [4]}") == []
    assert named(cluster(replace(SERVER, gpus=1)), "search.limits_ms={pi: [4]}") == []


def test_energy_is_refused_where_no_node_counts_it() -> None:
    joules = "search.limits=[{energy_j: 3}]"
    [(verdict, line)] = measured(cluster(BOARD), joules)
    assert verdict == "failure"
    assert line.startswith("search.limits must bound what the device measures; energy_j is not known of any node: let")
    assert "\n" not in line
    assert measured(cluster(BOARD, SERVER), joules) == []
    assert measured(cluster(replace(BOARD, counts_energy=None)), joules) == []
    assert measured(cluster(BOARD), "search.limits=[{model_mb: 3}]") == []
    assert measured(cluster(BOARD, may_grow=True), joules)[0][0] == "warning"


def test_a_runs_own_devices_are_known_once_they_are_timed(tmp_path: Path) -> None:
    place, command = str(tmp_path / "run"), ["latency", "measure", TINY, "--local"]
    few = ["--set", "latency.samples=3", "--set", "latency.devices=[{name: rack}]"]
    assert CliRunner().invoke(app, [*command, "--run", place, *few]).exit_code == 0
    limits = ["--set", "search.limits_ms={rock: [5]}", "--run", place]
    told = CliRunner().invoke(app, ["recipe", "check", TINY, *few[:2], *limits, *few[2:]])
    assert isinstance(told.exception, CheckError)
    assert "FAILED  devices that limits name: search.limits_ms must name devices that the run has timed" in told.stdout


@pytest.mark.parametrize("bounds", ["{model_mb: 3}", "{latency_ms: 9, p90_ms: 12}", "{peak_mb: 400}"])
def test_what_every_device_measures_passes(bounds: str) -> None:
    assert measured(Situation(("latency", "search"), None), f"search.limits=[{bounds}]") == []


def test_with_runtime_auto_a_device_is_refused_only_where_no_runtime_computes_in_its_dtype() -> None:
    here = Situation(("latency", "search"), None, (Machine("here", 1),))
    assert list(check_runtimes(load_recipe(TINY, ["latency.runtime=auto"]), here)) == []
    old = cluster(replace(BOARD, isa=("avx2",)))
    assert list(check_runtimes(load_recipe(TINY, ["latency.runtime=auto"]), old)) == []
    [(verdict, line)] = check_runtimes(load_recipe(TINY, ["latency.runtime=auto", "latency.dtype=bf16"]), old)
    assert verdict == "failure"
    assert line.startswith("board: ")
