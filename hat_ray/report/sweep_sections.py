"""The page's section of a sweep: which dimensions of an architecture cost time, on every device."""

from collections.abc import Sequence

from hat_ray.latency.influence import SweepResult, SweptDevice
from hat_ray.report.data import ReportData
from hat_ray.report.figure import Figure
from hat_ray.report.html import Markup, element, join
from hat_ray.report.numbers import milliseconds
from hat_ray.report.parts import figure, lined_table, section
from hat_ray.report.sweep_words import sweep_sentence, sweep_table


def sweep(data: ReportData, drawn: Sequence[Figure]) -> Markup | None:
    """Latency against each single dimension."""
    result = data.sweep
    if result is None:
        return None
    lead = (
        f"One architecture of space {result.space}, with every dimension at its {result.base_choice} choice, and what "
        "changing a single dimension does to its latency: from the smallest choice to the largest, in all layers."
    )
    figures = element("div", [figure(one) for one in drawn], class_="figures")
    devices = [_device(result, device) for device in result.devices]
    return section("sweep", "What each dimension costs", lead, figures, devices)


def _device(result: SweepResult, device: SweptDevice) -> Markup:
    heading = element("h3", device.title, element("small", f" base {milliseconds(device.base_ms)}"))
    caption = f"Influence of each dimension on {device.title}"
    found = element("p", sweep_sentence(result, device), class_="lead")
    return join(heading, found, lined_table(*sweep_table(result, device.slug), caption=caption))
