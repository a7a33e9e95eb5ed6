"""The tables that a run or a study prints at its end."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hat_ray.core.console import say
from hat_ray.pipeline.run_folder import StageRecord
from hat_ray.report.data import ReportData
from hat_ray.report.render import read_report
from hat_ray.report.topics.closing import closing_lines, summary_tables
from hat_ray.report.topics.flops import flops_lines
from hat_ray.report.topics.ranking import study_tables
from hat_ray.report.topics.sweep import sweep_tables
from hat_ray.storage.folder import Folder

STUDIES_SHOWN = ("ranking", "policies")
LOG_WIDTH = 140
"""Columns of the tables where no terminal sets its own."""


def close_message(place: str, records: Sequence[StageRecord]) -> None:
    """Print what a run or a study found: the tables, and where the page is."""
    if not records or records[-1].stage != "report":
        return
    output = Console()
    if not output.is_terminal:
        output = Console(width=LOG_WIDTH)
    data = read_report(Folder.at(place).child("report"))
    stages = {record.stage for record in records}
    for table in _tables(data, stages):
        output.print(table)
        output.print()
    if not stages & {"sweep", *STUDIES_SHOWN}:
        for line in closing_lines(data, place):
            say(line)
    say(f"report: {records[-1].output['page']}")


def _tables(data: ReportData, stages: set[str]) -> list[Table | Text]:
    """Return the tables above the closing line: a sweep's, those of other studies, or those of the run."""
    if "sweep" in stages and data.sweep is not None:
        return [*sweep_tables(data.sweep), *flops_lines(data)]
    studies = {"ranking": data.ranking, "policies": data.policies}
    shown = [study for name, study in studies.items() if name in stages and study is not None]
    return [*study_tables(shown)] if shown else [*summary_tables(data)]
