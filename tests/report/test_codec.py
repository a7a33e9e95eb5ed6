import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hat_ray.errors import RunError
from hat_ray.report.codec import from_json, to_json
from hat_ray.report.data import LossCurve, ReportData
from hat_ray.report.render import read_report, write_report
from hat_ray.storage.folder import Folder

Make = Callable[..., ReportData]


def test_report_data_survives_json(report: ReportData) -> None:
    assert from_json(json.loads(json.dumps(to_json(report)))) == report


def test_written_report_reads_back_and_leaves_two_files(small_report: Make, tmp_path: Path) -> None:
    data, folder = small_report(), Folder.at(tmp_path / "report")
    write_report(data, folder)
    assert read_report(folder) == data
    assert folder.list() == ["report.html", "report.json"]


def test_a_diverged_loss_becomes_null_and_is_drawn_as_a_gap(small_report: Make, tmp_path: Path) -> None:
    model = replace(small_report().chosen[0], scratch_loss=math.nan)
    data = small_report(chosen=(model,), retraining=(LossCurve("x", ((0, 9.0), (10, math.inf), (20, math.nan))),))
    write_report(data, Folder.at(tmp_path))
    back = read_report(Folder.at(tmp_path))
    assert back.retraining == (LossCurve("x", ((0, 9.0), (10, None), (20, None))),)
    assert back.chosen[0].scratch_loss is None


def test_other_versions_and_damage_are_told_in_one_line(small_report: Make) -> None:
    value = to_json(small_report())
    with pytest.raises(RunError, match="schema_version 1, got 99"):
        from_json({**value, "schema_version": 99})
    with pytest.raises(RunError, match=r"damaged at corpus\.train_pairs"):
        from_json({**value, "corpus": {**value["corpus"], "train_pairs": "many"}})
    with pytest.raises(RunError, match="not an architecture"):
        from_json({**value, "chosen": [{**value["chosen"][0], "architecture": {}}]})
    with pytest.raises(RunError, match="got None"):
        from_json([])
