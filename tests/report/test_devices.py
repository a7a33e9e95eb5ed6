"""What each device prefers: the picks equal brute force, and the sentences follow from them."""

from collections.abc import Callable
from dataclasses import replace

import plotly.graph_objects as go
import pytest

from hat_ray.report.data import Device, ReportData
from hat_ray.report.render import page
from hat_ray.report.topics.devices.charts import preference_figures
from hat_ray.report.topics.devices.preferences import AS_FAST, PREFERENCES, SHARES, device_preferences, differences
from hat_ray.report.topics.devices.section import (
    contest_rows,
    contest_sentence,
    mean_table,
    preference_sentence,
    preferences,
)
from hat_ray.search.candidates import Candidate
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape

Make = Callable[..., ReportData]


def network(layers: int, ffn: int) -> Architecture:
    decoder = DecoderShape(64, (ffn,) * layers, (2,) * layers, (2,) * layers, (1,) * layers)
    return Architecture(EncoderShape(64, (128,), (2,)), decoder, 64)


GRID = [network(layers, ffn) for layers in range(1, 7) for ffn in (64, 128, 192, 256, 320, 384)]
"""Loss falls alike with depth and with width: only latency tells which of them a device affords."""


def loss(one: Architecture) -> float:
    return 10 - one.decoder.depth - one.decoder.ffn_dims[0] / 64


def per_layer(one: Architecture) -> float:
    """A device that pays for layers."""
    return 10.0 * one.decoder.depth + one.decoder.ffn_dims[0] / 64


def per_width(one: Architecture) -> float:
    """A device that pays for width."""
    return one.decoder.depth + 10.0 * one.decoder.ffn_dims[0] / 64


def made(small_report: Make, **ms: Callable[[Architecture], float]) -> ReportData:
    """A report whose devices take what the functions say."""
    candidates = tuple(Candidate(a, loss(a), {slug: of(a) for slug, of in ms.items()}) for a in GRID)
    devices = tuple(Device(slug, f"The {slug}", largest_ms=max(map(of, GRID))) for slug, of in ms.items())
    return small_report(candidates=candidates, devices=devices, chosen=(), runtimes=())


def test_the_best_at_each_share_equals_brute_force(report: ReportData) -> None:
    found = device_preferences(report)
    assert found is not None
    largest = report.first("largest")
    assert largest is not None
    for entry in found.devices:
        slug = entry.device.slug
        assert entry.largest_ms == largest.latency[slug].predicted_ms
        for share, best in zip(found.shares, entry.best, strict=True):
            within = [c for c in report.candidates if c.latency_ms[slug] <= share * entry.largest_ms]
            assert best.loss_bits == min(c.loss_bits for c in within)
        for best, rivals in zip(entry.best, entry.rivals, strict=True):
            ms = best.latency_ms[slug]
            near = [c for c in report.candidates if (1 - AS_FAST) * ms <= c.latency_ms[slug] <= (1 + AS_FAST) * ms]
            assert set(map(id, rivals)) == set(map(id, near))
    least = [min(c.latency_ms[d.device.slug] for c in report.candidates) / d.largest_ms for d in found.devices]
    assert found.shares == tuple(share for share in SHARES if share >= max(least))


def test_a_share_that_one_device_cannot_keep_is_asked_of_none(small_report: Make) -> None:
    found = device_preferences(made(small_report, quick=per_layer, stiff=lambda a: 100 + per_layer(a)))
    assert found is not None
    assert found.shares[0] == next(s for s in SHARES if s * 166 >= 111)
    assert found.shares[found.drawn] == found.shares[0]


def test_devices_that_pay_for_different_things_are_told_apart(small_report: Make) -> None:
    data = made(small_report, gpu=per_layer, board=per_width)
    found = device_preferences(data)
    assert found is not None
    gpu, board = found.devices
    told = preference_sentence(found, gpu, len(data.candidates))
    mine, theirs = gpu.mean("decoder_depths"), board.mean("decoder_depths")
    assert mine < theirs
    assert f"fewer decoder layers ({mine:.1f} against {theirs:.1f})" in told
    assert "wider decoder FFN (" in told
    assert "more decoder layers (" in preference_sentence(found, board, len(data.candidates))
    assert {one.dimension for one in differences(found, gpu)} == {"decoder_depths", "decoder_ffn_dims"}


def test_devices_that_do_not_differ_are_said_not_to(small_report: Make) -> None:
    found = device_preferences(made(small_report, one=per_layer, other=lambda a: 7 * per_layer(a)))
    assert found is not None
    assert found.devices[0].best == found.devices[1].best
    text = preference_sentence(found, found.devices[0], 36)
    assert "its best architectures differ steadily by more than 10 % in no dimension" in text
    assert "one architecture serves this device as well as the others" in text
    assert "Only 36 architectures were scored: chance plays a part." in text


def test_one_device_is_held_against_what_is_as_fast_on_it(small_report: Make) -> None:
    data = made(small_report, gpu=per_layer)
    found = device_preferences(data)
    assert found is not None
    entry = found.devices[0]
    means = mean_table(found)
    assert means is not None
    assert [row[0] for row in means.rows] == ["The gpu", "Others as fast"]
    assert len(means.columns) == 1 + len(found.varying)
    expected = [sum(PREFERENCES["decoder_ffn_dims"](c.architecture) for c in g) / len(g) for g in entry.rivals]
    assert found.others(entry, "decoder_ffn_dims") == expected
    assert "Compared with the scored architectures that are as fast within 10 %" in preference_sentence(
        found, entry, 200
    )


def test_where_no_largest_was_predicted_the_slowest_scored_one_stands_for_it(small_report: Make) -> None:
    data = made(small_report, gpu=per_layer)
    bare = replace(data, devices=(replace(data.devices[0], largest_ms=None),))
    found = device_preferences(bare)
    assert found is not None
    assert found.devices[0].largest_ms == max(map(per_layer, GRID))
    assert device_preferences(replace(bare, candidates=())) is None


def test_the_figure_holds_every_limit_of_every_device_and_is_valid(report: ReportData) -> None:
    found = device_preferences(report)
    assert found is not None
    [figure] = preference_figures(found)
    assert len(figure.rows) == len(found.devices) * len(found.shares)
    assert len(figure.traces) == len(found.devices) * len(found.varying)
    for trace in figure.traces:
        assert len(trace["x"]) == len(found.shares)  # type: ignore[arg-type]
    assert [trace["showlegend"] for trace in figure.traces].count(True) == len(found.devices)
    go.Figure(**{name: coloured(part) for name, part in figure.plotly().items()})
    go.Figure(layout=coloured(figure.drawn()["narrow"]))


def coloured(value: object) -> object:
    if isinstance(value, dict):
        return {key: coloured(item) for key, item in value.items()}
    if isinstance(value, list):
        return [coloured(item) for item in value]
    return "#123456" if isinstance(value, str) and value.startswith("@") else value


def test_devices_are_drawn_side_by_side_on_one_scale(report: ReportData) -> None:
    shown, found = preferences(report), device_preferences(report)
    assert shown is not None
    assert found is not None
    assert [one.title for one in shown.devices] == [device.title for device in report.devices]
    assert len({(one.network.drawing.width, one.network.drawing.height) for one in shown.devices}) == 1
    assert [one.network.id for one in shown.devices] == [
        entry.best[found.drawn].architecture.id for entry in found.devices
    ]


def test_a_limit_tells_which_runtime_wins_and_which_keeps_up_not_at_all(report: ReportData) -> None:
    alone, both = report.runtimes
    assert contest_sentence(alone, {}) == (
        "Under 250 ms on raspberry-pi-4: onnx int8, 1 thread wins with loss 4.600; "
        "eager fp32, 1 thread has nothing as fast."
    )
    assert contest_sentence(both, {}).endswith("wins with loss 4.600, against 4.900 of eager fp32, 1 thread.")
    onnx, eager = ((one.limit.device, one.id) for one in both.entries)
    scores = {onnx: 30.0, eager: 31.25}
    told = "Trained from scratch, eager fp32, 1 thread is ahead: 31.2 BLEU against 30.0."
    assert contest_sentence(both, scores).endswith(told)
    assert "Trained" not in contest_sentence(both, {**scores, onnx: 32.0})
    rows = contest_rows(both, {onnx: 31.25})
    assert [row[1] for row in rows] == ["onnx int8, 1 thread ★", "eager fp32, 1 thread"]
    assert [row[5] for row in rows] == ["31.2", "–"]
    assert contest_sentence(alone, {}) in page(report)


@pytest.mark.parametrize("runtimes", [True, False])
def test_a_report_without_candidates_shows_runtimes_alone_or_nothing(small_report: Make, runtimes: bool) -> None:
    data = small_report(candidates=(), chosen=())
    text = page(data if runtimes else replace(data, runtimes=()))
    assert ('id="devices"' in text) is runtimes
    assert ('href="#devices"' in text) is runtimes
