"""What a run cost: device time, energy and CO2 by stage, and counts of its work beside HAT's published figures.

Sources: the paper's abstract (arXiv 2005.14187), and the README of its code with its picture and configurations
(WMT'14 En-De): SuperTransformer and SubTransformers 40,000 updates of 8 GPUs x 16 batches of 4,096 tokens; evolution
30 x 125; latency tables of 2,000 rows; search cost 52 pounds of CO2, the Evolved Transformer's 626,155.
"""

from dataclasses import dataclass

from hat_ray.core.text import count, duration, energy, mass, significant
from hat_ray.report.chart import Figure, Value, data_only
from hat_ray.report.data import ReportData
from hat_ray.report.ledger import JOULES_A_KWH, Ledger, LedgerLine, WorkDone
from hat_ray.report.tables import AnyCell, Cell, Facts, Table

HAT_UPDATES = 40_000
HAT_TOKENS = HAT_UPDATES * 8 * 16 * 4_096
"""At most: batches are filled up to that size."""
HAT_SCORED = 30 * 125
"""For each device and limit; parents are scored again."""
HAT_TIMED = 2_000
"""On each device."""

GRAMS_A_POUND = 453.592
HAT_CO2_G = 52 * GRAMS_A_POUND
EVOLVED_TRANSFORMER_CO2_G = 626_155 * GRAMS_A_POUND

HAT_CLAIM = (
    f"HAT puts its search cost at 52 pounds of CO2 ({mass(HAT_CO2_G)}), 12,041 times less than the Evolved "
    f"Transformer's 626,155 ({mass(EVOLVED_TRANSFORMER_CO2_G)}), whose search shares no weights. Against HAT itself, "
    "what compares is the counts above."
)
NOT_COMPARABLE = (
    "What does not compare: hours and energy. HAT trained on several GPUs and much larger text, and its CO2 is that of "
    "its hardware and grid; the figures above are busy cores and GPUs under the assumptions named. A small run costs "
    "less because it trains less, not because it is the better method: compare runs of one recipe."
)


def work_rows(work: WorkDone) -> list[list[str]]:
    """Return counts of the work, beside HAT's; work that is still to be done is left out."""
    rows: list[list[str]] = []
    if work.supernet_updates is not None:
        rows.append(["SuperTransformer, updates", f"{work.supernet_updates:,}", f"{HAT_UPDATES:,}"])
    if work.supernet_tokens is not None:
        rows.append(["SuperTransformer, tokens", count(work.supernet_tokens), f"at most {count(HAT_TOKENS)}"])
    if work.timed_a_device is not None:
        rows.append(["Architectures timed, on each device", f"{work.timed_a_device:,.0f}", f"{HAT_TIMED:,}"])
    if work.searches is not None and work.candidates is not None:
        pairs = f"{work.searches} limit{'s' if work.searches != 1 else ''}"
        many = f"{work.searches * HAT_SCORED:,} in {work.searches} search{'es' if work.searches != 1 else ''}"
        rows.append([f"Architectures scored, for {pairs}", f"{work.candidates:,} in one search", many])
    if work.models is not None and work.model_updates is not None:
        rows.append(["Models from scratch, updates each", f"{work.model_updates:,}", f"{HAT_UPDATES:,}"])
    return rows


_COLUMNS = (
    *("stage", "wall s", "busy core s", "busy GPU s", "measured J", "estimated J"),
    *("energy kWh", "CO2e g", "counted from"),
)


@dataclass(frozen=True)
class Cost:
    """What the run took, by stage and by device, and counts of its work beside HAT's."""

    sentence: str
    stages: Table
    ledger: Figure
    assumptions: Facts
    timed: Table | None
    work: Table | None
    hat_claim: str = HAT_CLAIM
    not_comparable: str = NOT_COMPARABLE


def cost(data: ReportData) -> Cost | None:
    """Return the run's costs; None where they were not recorded."""
    ledger = data.ledger
    if ledger is None or not ledger.lines:
        return None
    return Cost(
        sentence=cost_sentence(ledger),
        stages=_stages(ledger),
        ledger=ledger_figure(ledger),
        assumptions=_assumptions(ledger),
        timed=_timed(data, ledger),
        work=_work(ledger.work),
    )


def cost_sentence(ledger: Ledger) -> str:
    """Return the whole run's costs, and the measured share."""
    total = ledger.total
    kwh = ledger.kwh(total)
    busy = [f"{_hours(total.core_s)} of busy CPU cores"] if total.core_s else []
    busy += [f"{_hours(total.gpu_s)} of busy GPUs"] if total.gpu_s else []
    took = f"{' and '.join(busy) or 'No busy time was recorded'}, in {duration(total.wall_s)} of wall time"
    return f"{took}: about {energy(kwh)} and {mass(ledger.co2_g(kwh))} of CO2 equivalent. {_how_sure(ledger, total)}"


def _how_sure(ledger: Ledger, total: LedgerLine) -> str:
    if not total.measured_j:
        return "All of that energy is estimated from busy time: no meter measured it."
    if not ledger.estimated_j(total):
        return "All of that energy was counted by the machines' meters."
    measured = energy(total.measured_j / JOULES_A_KWH)
    return f"Meters counted {measured} of it while architectures were timed; the rest is estimated from busy time."


def _hours(seconds: float) -> str:
    """Return device time in hours, or as a duration where it is less than one."""
    return f"{significant(seconds / 3600)} h" if seconds >= 3600 else duration(seconds)


def _stages(ledger: Ledger) -> Table:
    with_gpu = any(line.gpu_s for line in ledger.lines)
    gpu = ("GPU time",) if with_gpu else ()
    columns = ("Stage", "Wall time", "Core time", *gpu, "Energy", "CO2e", "Counted from")
    rows: list[list[AnyCell]] = [[*_cells(ledger, line, with_gpu)] for line in ledger.lines]
    rows.append([Cell(cell, style="strong") for cell in _cells(ledger, ledger.total, with_gpu)])
    return Table("Cost by stage", columns, rows)


def _cells(ledger: Ledger, line: LedgerLine, with_gpu: bool) -> list[str]:
    kwh = ledger.kwh(line)
    gpu = [duration(line.gpu_s)] if with_gpu else []
    first = [line.stage, duration(line.wall_s), duration(line.core_s), *gpu]
    return [*first, _energy(ledger, line), mass(ledger.co2_g(kwh)), line.counted]


def _energy(ledger: Ledger, line: LedgerLine) -> str:
    kinds = ["measured"] * bool(line.measured_j) + ["estimated"] * bool(ledger.estimated_j(line))
    return f"{energy(ledger.kwh(line))} {' + '.join(kinds)}".strip()


def ledger_figure(ledger: Ledger) -> Figure:
    """Return the ledger's data; it is drawn nowhere."""
    rows: list[list[Value]] = [
        [
            *(line.stage, line.wall_s, line.core_s, line.gpu_s, line.measured_j, ledger.estimated_j(line)),
            *(ledger.kwh(line), ledger.co2_g(ledger.kwh(line)), line.counted),
        ]
        for line in ledger.lines
    ]
    return data_only("ledger", "Cost by stage", _COLUMNS, rows)


def _assumptions(ledger: Ledger) -> Facts:
    watts = f"{significant(ledger.core_watts)} W a busy core"
    if any(line.gpu_s for line in ledger.lines):
        watts += f", {significant(ledger.gpu_watts)} W a busy GPU"
    measured = "by RAPL or NVML, over whole processors and GPUs: what others computed meanwhile is in it"
    return {
        **({"Measured": measured} if ledger.total.measured_j else {}),
        "Assumed": f"{watts}: settings report.core_watts and report.gpu_watts, not measurements; put your own there",
        "Grid": f"{significant(ledger.grid_g_co2e_per_kwh)} g of CO2 equivalent a kWh: setting "
        "report.grid_g_co2e_per_kwh; its default, 473, is the world's average of 2024 (Ember, Global Electricity "
        "Review 2025)",
        "Left out": "waiting and idle machines, cooling, making the hardware, canaries between timings, and the wall "
        "time of attempts that were killed before a stage was finished",
    }


def _timed(data: ReportData, ledger: Ledger) -> Table | None:
    """Return the costs of timing on each device."""
    titles = {device.slug: device.title for device in data.devices}
    rows = [
        [
            titles.get(one.device, one.device),
            f"{one.rows:,}",
            duration(one.seconds),
            "not measured" if one.energy_j is None else f"{energy(one.energy_j / JOULES_A_KWH)} ({one.energy_source})",
        ]
        for one in ledger.timed
    ]
    return Table("Timing, by device", ("Device", "Timings", "Translating", "Energy, measured"), rows) if rows else None


def _work(work: WorkDone) -> Table | None:
    rows = work_rows(work)
    columns = ("Work", "This run", "HAT, WMT'14 En-De")
    return Table("Beside HAT's published settings", columns, rows) if rows else None
