"""The page's section of devices side by side: what each likes, drawn as networks, and which runtime wins each limit."""

from collections.abc import Sequence

from hat_ray.core.text import fixed, milliseconds
from hat_ray.report.chart import Figure
from hat_ray.report.data import ReportData
from hat_ray.report.html import Markup, element, join
from hat_ray.report.network import Scale, draw
from hat_ray.report.parts import csv_link, figure, legend, section, table
from hat_ray.report.topics.device_charts import (
    CONTEST_COLUMNS,
    DRAWN_COLUMNS,
    contest_rows,
    contest_sentence,
    drawn_row,
    likes_sentence,
    limit_words,
    mean_table,
    rule_words,
    shape_words,
)
from hat_ray.report.topics.device_preferences import Liked, Likes


def devices(data: ReportData, found: Likes | None, drawn: Sequence[Figure]) -> Markup | None:
    """What each device likes; which of one machine's runtimes wins each limit."""
    runtimes = _runtimes(data)
    if found is None:
        return section("devices", "What each device likes", None, runtimes) if runtimes else None
    scale = Scale.of([one.best[found.drawn].architecture for one in found.devices])
    nets = element(
        "div",
        [_net(found, one, scale) for one in found.devices],
        class_="networks scroll",
        tabindex=0,
        role="region",
        aria_label="The best architecture of each device at a comparable limit",
    )
    share = f"{100 * found.shares[found.drawn]:.0f} %"
    drawn_lead = (
        f"Drawn: the best scored architecture within {share} of what the largest takes on the same device, all on one "
        "scale. It was found with inherited weights; it need not be one of the models that were built."
    )
    return section(
        "devices",
        "What each device likes",
        rule_words(found),
        element("ul", [_said(data, found, one) for one in found.devices], class_="said"),
        element("p", drawn_lead, class_="lead"),
        legend(),
        nets,
        table(DRAWN_COLUMNS, [drawn_row(found, one) for one in found.devices], caption="What is drawn"),
        _means(found),
        element("div", [figure(one) for one in drawn], class_="figures") if drawn else None,
        runtimes,
    )


def _said(data: ReportData, found: Likes, liked: Liked) -> Markup:
    scored = sum(liked.device.slug in one.predicted_ms for one in data.candidates)
    return element("li", element("strong", liked.device.title), ": ", likes_sentence(found, liked, scored))


def _net(found: Likes, liked: Liked, scale: Scale) -> Markup:
    one = liked.best[found.drawn]
    limit = f"limit {limit_words(found, liked)} · predicted {milliseconds(one.predicted_ms[liked.device.slug])}"
    heading = element("h3", liked.device.title, element("small", f"{limit} · loss {fixed(one.loss, 3)}"))
    below = element("p", element("code", one.architecture.id), f" · {shape_words(one.architecture)}")
    text = element("details", element("summary", "As text"), element("p", element("code", str(one.architecture))))
    return element("article", element("div", heading), draw(one.architecture, scale), below, text, class_="net")


def _means(found: Likes) -> Markup | None:
    if not found.varying:
        return None
    columns, rows = mean_table(found)
    return join(element("h3", "Over all limits"), table(columns, rows, caption="Means over all limits"))


def _runtimes(data: ReportData) -> Markup | None:
    """Which runtime wins each limit, where one machine has several."""
    if not data.runtimes:
        return None
    bleu = {(model.device or "", model.architecture.id): model.bleu for model in data.chosen if model.kind == "winner"}
    rows = [row for contest in data.runtimes for row in contest_rows(contest, bleu)]
    said = [element("li", contest_sentence(contest, bleu)) for contest in data.runtimes]
    columns = ("machine", *CONTEST_COLUMNS)
    named = [[contest.hardware, *row] for contest in data.runtimes for row in contest_rows(contest, bleu)]
    plain = Figure("runtimes-table", "Which runtime wins each limit", "", [], {}, columns, named)
    return element(
        "div",
        element("h3", "Which runtime wins each limit"),
        element("ul", said, class_="said"),
        table(CONTEST_COLUMNS, rows, caption="Which runtime wins each limit", text_columns=2),
        element(
            "p",
            "The runtime with the least loss wins (★), of equal ones the faster. The loss is of inherited weights: "
            "after training from scratch BLEU may order them otherwise.",
            class_="quiet",
        ),
        element("p", csv_link(plain, "The runtimes as CSV")),
        id="runtimes",
    )
