"""Write a report: the page and the same figures as JSON."""

from typing import Any

from pydantic import TypeAdapter

from hat_ray.codec import read_typed
from hat_ray.report.codec import from_json, to_json
from hat_ray.report.data import ReportData
from hat_ray.report.page import page
from hat_ray.storage import Folder

PAGE, FIGURES = "report.html", "report.json"
_ANY: TypeAdapter[Any] = TypeAdapter(Any)


def write_report(data: ReportData, folder: Folder) -> None:
    """Write `report.json` and `report.html`, each whole or not at all."""
    content = page(data)
    folder.write_json(FIGURES, to_json(data))
    folder.write_text(PAGE, content)


def read_report(folder: Folder) -> ReportData:
    """Read the figures of a written report."""
    return from_json(read_typed(folder, FIGURES, _ANY, "write the report again"))
