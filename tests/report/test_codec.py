import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hat_ray.core.codec import from_json, to_json
from hat_ray.errors import DamagedError, FormatError
from hat_ray.report.data import LossCurve, ReportData
from hat_ray.report.render import read_report, write_report
from hat_ray.storage.folder import Folder
from tests.damage import sealed

Make = Callable[..., ReportData]


def test_report_data_survives_json(report: ReportData) -> None:
    assert from_json(ReportData, json.loads(json.dumps(to_json(report))), "the report") == report


def test_written_report_reads_back_and_leaves_two_files(small_report: Make, tmp_path: Path) -> None:
    data, folder = small_report(), Folder.at(tmp_path / "report")
    write_report(data, folder)
    assert read_report(folder) == data
    assert folder.list() == ["report.html", "report.json"]


def test_a_diverged_loss_becomes_null_and_is_drawn_as_a_gap(small_report: Make, tmp_path: Path) -> None:
    first = small_report().chosen[0]
    model = replace(
        first, trained=replace(first.trained, trainings=(replace(first.trained.trainings[0], loss_bits=math.nan),))
    )
    data = small_report(chosen=(model,), retraining=(LossCurve("x", ((0, 9.0), (10, math.inf), (20, math.nan))),))
    write_report(data, Folder.at(tmp_path))
    back = read_report(Folder.at(tmp_path))
    assert back.retraining == (LossCurve("x", ((0, 9.0), (10, None), (20, None))),)
    assert back.chosen[0].trained_loss_bits is None


def test_other_formats_and_damage_are_reported_in_one_line(small_report: Make, tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    write_report(small_report(), folder)
    value: dict[str, Any] = folder.read_json("report.json")
    del value["sealed_sha256"]

    def refused(changed: object) -> str:
        folder.write_json("report.json", sealed(changed) if isinstance(changed, dict) else changed)
        with pytest.raises(DamagedError) as error:
            read_report(folder)
        assert "\n" not in str(error.value)
        assert str(error.value).endswith(": write the report again")
        return str(error.value)

    assert "has format 99, this hat-ray reads format 6" in refused({**value, "format": 99})
    corpus = {**value["corpus"], "train_pairs": "many"}
    assert "is damaged (corpus.train_pairs: Input should be a valid integer" in refused({**value, "corpus": corpus})
    assert "not an architecture" in refused({**value, "chosen": [{**value["chosen"][0], "architecture": {}}]})
    assert "must hold a JSON object, got list" in refused([])
    folder.write_json("report.json", {**value, "format": 1})
    with pytest.raises(FormatError):
        read_report(folder)
