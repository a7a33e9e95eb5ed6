"""Several runs side by side: what differs, what must not be compared, who is on the frontier of all together."""

from collections.abc import Callable
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from hat_ray.report.comparison.charts import delivered, overlay
from hat_ray.report.comparison.page import comparison_page, device_sentences
from hat_ray.report.comparison.runs import (
    ComparedRun,
    SharedDevice,
    cautions,
    comparable,
    devices_of,
    flatten,
    merged_frontier,
    recipe_differences,
    run_label,
)
from hat_ray.report.comparison.to_json import comparison_to_json
from hat_ray.report.data import ReportData

Make = Callable[..., ReportData]
RECIPE = "name: {name}\nsupernet: {{label_smoothing: 0.1, updates: {updates}}}\nsearch: {{limits_ms: [20, 30]}}\n"


def compared(data: ReportData, index: int, **changes: object) -> ComparedRun:
    return ComparedRun(run_label(index), f"run-{index}", f"/runs/run-{index}", replace(data, **changes))  # type: ignore[arg-type]


@pytest.fixture
def runs(small_report: Make) -> list[ComparedRun]:
    """Two runs of one recipe: the second scored every loss a little better, and trained its supernet for longer."""
    data = small_report()
    data = replace(
        data,
        corpus=replace(data.corpus, fingerprint="f" * 64, test_set="t" * 16),
        provenance=replace(data.provenance, recipe_yaml=RECIPE.format(name="one", updates=100)),
    )
    better = tuple(replace(one, loss_bits=one.loss_bits - 0.01) for one in data.candidates)
    longer = replace(data.provenance, recipe_yaml=RECIPE.format(name="two", updates=200))
    return [compared(data, 0), compared(data, 1, candidates=better, provenance=longer)]


def changed(run: ComparedRun, **changes: object) -> ComparedRun:
    return replace(run, data=replace(run.data, **changes))  # type: ignore[arg-type]


def test_runs_are_lettered_without_end() -> None:
    assert [run_label(i) for i in (0, 1, 25, 26, 27, 51, 52, 701, 702)] == [
        *("A", "B", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA")
    ]


def test_settings_that_differ_are_found_by_their_path(runs: list[ComparedRun]) -> None:
    assert recipe_differences(runs) == [("name", ["one", "two"]), ("supernet.updates", ["100", "200"])]
    assert flatten({"a": {"b": [1, 2], "c": None}, "d": {}}) == {"a.b": "[1, 2]", "a.c": "null", "d": "{}"}
    broken = changed(runs[0], provenance=replace(runs[0].data.provenance, recipe_yaml="a: ["))
    assert ("supernet.updates", ["–", "200"]) in recipe_differences([broken, runs[1]])


def test_runs_of_one_text_space_and_workload_compare(runs: list[ComparedRun]) -> None:
    assert cautions(runs) == []


@pytest.mark.parametrize(
    ("part", "change", "what", "words"),
    [
        ("corpus", {"test_set": "other"}, "bleu", "Test sets differ"),
        ("corpus", {"fingerprint": "other"}, "loss", "The text or its sub-words differ"),
        ("space", {"id": "other"}, "space", "Search spaces differ"),
    ],
)
def test_what_must_not_be_compared_is_told(
    runs: list[ComparedRun], part: str, change: dict[str, object], what: str, words: str
) -> None:
    other = changed(runs[1], **{part: replace(getattr(runs[1].data, part), **change)})
    found = cautions([runs[0], other])
    assert [caution.what for caution in found] == [what]
    assert words in found[0].text
    assert "A: " in found[0].text
    assert "B: " in found[0].text
    assert not comparable(found, what)


def test_a_copy_of_a_run_is_told(runs: list[ComparedRun]) -> None:
    copy = replace(runs[0], run_label="C")
    [caution] = cautions([*runs, copy])
    assert caution.what == "copy"
    assert caution.text.startswith("A and C hold the very same scored architectures")


def test_reports_that_do_not_record_their_text_are_told(runs: list[ComparedRun]) -> None:
    old = changed(runs[1], corpus=replace(runs[1].data.corpus, test_set=None, fingerprint=None))
    found = cautions([runs[0], old])
    assert [caution.what for caution in found] == ["bleu", "loss"]
    assert all("is unknown (B: the report does not record it" in caution.text for caution in found)


def test_other_workloads_signatures_and_smoothing_are_told(runs: list[ComparedRun]) -> None:
    first, second = runs
    assert [c.what for c in cautions([first, changed(second, protocol={"beam": "1"})])] == ["latency"]
    assert [c.what for c in cautions([first, changed(second, bleu_signature="tok:intl")])] == ["bleu"]
    yaml = second.data.provenance.recipe_yaml.replace("0.1", "0.0")
    smooth = changed(second, provenance=replace(second.data.provenance, recipe_yaml=yaml))
    assert [c.what for c in cautions([first, smooth])] == ["loss"]


def test_the_merged_frontier_equals_brute_force(runs: list[ComparedRun]) -> None:
    for shared in devices_of(runs):
        slug = shared.device.slug
        points = [(run.run_label, c.loss_bits, c.latency_ms[slug]) for run in runs for c in run.data.frontier(slug)]
        best = [
            p for p in points if not any(q[1] <= p[1] and q[2] <= p[2] and (q[1] < p[1] or q[2] < p[2]) for q in points)
        ]
        expected = {run.run_label: sum(p[0] == run.run_label for p in best) for run in runs}
        assert merged_frontier(shared) == expected
        assert expected["A"] == 0
        assert f"{expected['B']} by B." in " ".join(device_sentences(shared, []))


def test_devices_are_matched_and_those_of_one_run_stand_last(runs: list[ComparedRun]) -> None:
    first, second = runs
    slugs = [device.slug for device in first.data.devices]
    one = changed(second, devices=second.data.devices[1:])
    found = devices_of([first, one])
    assert [shared.device.slug for shared in found] == [slugs[1], slugs[0]]
    assert [[run.run_label for run in shared.runs] for shared in found] == [["A", "B"], ["A"]]


def test_where_losses_do_not_compare_no_run_is_put_ahead(runs: list[ComparedRun]) -> None:
    other = changed(runs[1], corpus=replace(runs[1].data.corpus, fingerprint="other"))
    pair = [runs[0], other]
    told = " ".join(device_sentences(SharedDevice(runs[0].data.devices[0], tuple(pair)), cautions(pair)))
    assert "frontiers do not compare" in told
    assert "by B" not in told
    value = comparison_to_json(pair, devices_of(pair), cautions(pair))
    assert all(device["merged_frontier"] is None for device in value["devices"])


def test_the_overlay_holds_every_frontier_point_and_winner(runs: list[ComparedRun]) -> None:
    for shared in devices_of(runs):
        slug = shared.device.slug
        figure = overlay(runs, shared, [], "x")
        assert figure is not None
        for run in runs:
            points = {(c.latency_ms[slug], c.loss_bits) for c in run.data.frontier(slug)}
            lines = [t for t in figure.traces if t["name"] == run.label and t["mode"] == "lines+markers"]
            assert [set(zip(t["x"], t["y"], strict=True)) for t in lines] == [points]  # type: ignore[call-overload]
            stars = [t for t in figure.traces if t["name"] == run.label and t["mode"] == "markers+text"]
            assert [len(t["x"]) for t in stars] == [len(run.data.winners(slug))]  # type: ignore[arg-type]
            assert {letter for t in stars for letter in t["text"]} == {run.run_label}  # type: ignore[attr-defined]
        built = delivered(runs, shared, [], "y")
        assert built is not None
        assert len(built.rows) == sum(len(run.data.models_on(slug)) for run in runs)
        for one in (figure, built):
            go.Figure(**{name: coloured(part) for name, part in one.plotly().items()})


def coloured(value: object) -> object:
    if isinstance(value, dict):
        return {key: coloured(item) for key, item in value.items()}
    if isinstance(value, list):
        return [coloured(item) for item in value]
    return "#123456" if isinstance(value, str) and value.startswith("@") else value


def test_figures_carry_their_caution(runs: list[ComparedRun]) -> None:
    pair = [runs[0], changed(runs[1], corpus=replace(runs[1].data.corpus, test_set="other", fingerprint="other"))]
    shared, warned = devices_of(pair)[0], cautions(pair)
    frontier, built = overlay(pair, shared, warned, "x"), delivered(pair, shared, warned, "y")
    assert frontier is not None
    assert built is not None
    assert frontier.caption.endswith("Caution: The text or its sub-words differ, so losses do not compare.")
    assert built.caption.endswith("Caution: Test sets differ, so BLEU does not compare.")


def test_json_tells_what_the_page_tells(runs: list[ComparedRun]) -> None:
    value = comparison_to_json(runs, devices_of(runs), cautions(runs))
    assert [run["run"] for run in value["runs"]] == ["A", "B"]
    assert value["recipe_differences"]["supernet.updates"] == {"A": "100", "B": "200"}
    ledger = runs[0].data.ledger
    assert ledger is not None
    assert value["runs"][0]["energy_kwh"] == ledger.kwh(ledger.total)
    for device in value["devices"]:
        winners = [m for run in runs for m in run.data.winners(device["device"])]
        assert [w["id"] for w in device["winners"]] == [m.architecture.id for m in winners]
        assert device["merged_frontier"]["A"] == 0


def test_runs_that_found_nothing_still_have_a_page(small_report: Make) -> None:
    bare = small_report(candidates=(), chosen=(), devices=(), ledger=None, protocol={}, bleu_signature=None)
    text = comparison_page([compared(bare, 0), compared(bare, 1)])
    assert "No two of these runs have a device in common" in text
    assert 'href="#winners"' not in text
