"""The sections of the page, top to bottom. Each returns None when the run has nothing for it."""

from collections.abc import Sequence

from hat_ray.core.text import UNKNOWN, count, duration, fixed, limit, milliseconds, signed, significant
from hat_ray.corpus.corpus import told_leak
from hat_ray.report.chart import LEGEND, Figure
from hat_ray.report.data import ChosenModel, Device, Kind, ReportData
from hat_ray.report.html import Child, Markup, element, join
from hat_ray.report.network import Scale, draw
from hat_ray.report.parts import facts, figure, legend, section, table
from hat_ray.report.reading import (
    VERDICT_MARKS,
    VERDICT_RULE,
    compare,
    findings,
    headline_winner,
    latency_ms,
    limit_verdict,
    role,
)
from hat_ray.search.limits import Verdict

KIND_MARKS = {"winner": "★", "largest": "■", "smallest": "▼", "random": "✕"}
MAX_SAMPLES = 6


def summary(data: ReportData) -> Markup:
    """What was found, one card a device."""
    return element("section", [_device_card(data, device) for device in data.devices], id="summary", class_="cards")


def _device_card(data: ReportData, device: Device) -> Markup:
    winner = headline_winner(data, device.slug)
    on = element("p", "On ", element("strong", device.title), class_="on")
    if winner is None:
        return element("article", on, element("p", "No model was chosen for this device."), class_="card")
    sentences = element("p", " ".join(findings(data, winner, device.slug)), class_="finding")
    return element("article", on, _tiles(data, winner, device.slug), sentences, _others(data, winner), class_="card")


def _others(data: ReportData, headline: ChosenModel) -> Markup | None:
    """The winners of a device's other limits, a line each."""
    slug = headline.device or ""
    items = []
    for winner in data.winners(slug):
        if winner is not headline:
            words = [f"{milliseconds(latency_ms(winner, slug))}", f"{fixed(winner.bleu, 1)} BLEU"]
            items.append(element("li", element("strong", role(winner)), ": ", " · ".join(words)))
    return element("ul", items, class_="others") if items else None


def _tiles(data: ReportData, winner: ChosenModel, slug: str) -> Markup:
    """The few figures that matter, large."""
    largest = data.first("largest")
    compared = compare(winner, largest, slug) if largest and largest.architecture != winner.architecture else None
    below = f"limit {limit(winner.limit_ms)}" if winner.limit_ms is not None else "a sentence"
    tiles = [_tile(significant(latency_ms(winner, slug)), "ms", below)]
    if compared and compared.speedup is not None:
        tiles.append(_tile(f"{fixed(compared.speedup, 1)}×", "", "as fast as the largest"))
    if winner.bleu is not None:
        against = (
            f"{signed(compared.bleu, 1)} against the largest" if compared and compared.bleu is not None else "test set"
        )
        tiles.append(_tile(fixed(winner.bleu, 1), "BLEU", against))
    return element("ul", tiles, class_="tiles")


def _tile(value: str, unit: str, below: str) -> Markup:
    number = element("span", value, element("small", f" {unit}") if unit else None, class_="value")
    return element("li", number, element("span", below, class_="below"))


def results(data: ReportData) -> Markup | None:
    """The table of the models that were built, one a device."""
    if not data.chosen:
        return None
    lead = (
        "Every model below was trained from scratch with the same number of updates, then measured on the device and "
        "scored on the test set. Inherited loss is what the search saw; loss from scratch is what training gave."
    )
    tables = [join(element("h3", device.title), _results_table(data, device)) for device in data.devices]
    return section("results", "The models", lead, tables, _scores_note(data))


def _results_table(data: ReportData, device: Device) -> Markup:
    with_chrf = any(model.chrf is not None for model in data.chosen)
    scores = ("BLEU", "chrF") if with_chrf else ("BLEU",)
    others = ("Measured", "Predicted", "Speed", "Parameters", "FLOPs", "Inherited", "From scratch")
    rows = [_result_row(data, model, device.slug, with_chrf) for model in data.models_on(device.slug)]
    return table(("Model", *scores, *others), rows, caption=f"The models on {device.title}")


def _result_row(data: ReportData, model: ChosenModel, slug: str, with_chrf: bool) -> list[Child]:
    largest, latency = data.first("largest"), model.latency.get(slug)
    speedup = compare(model, largest, slug).speedup if largest else None
    return [
        _model_name(model),
        element("strong", fixed(model.bleu, 1)),
        *([fixed(model.chrf, 1)] if with_chrf else []),
        _measured(model, slug),
        milliseconds(latency.predicted_ms if latency else None),
        f"{fixed(speedup, 2)}×" if speedup is not None else UNKNOWN,
        count(model.params),
        count(model.flops),
        fixed(model.inherited_loss, 3),
        fixed(model.scratch_loss, 3),
    ]


def _model_name(model: ChosenModel) -> Markup:
    mark = element("span", KIND_MARKS[model.kind], class_=f"mark {model.kind}", aria_hidden="true")
    link = element("a", model.architecture.id, href=f"#net-{model.architecture.id}", class_="id")
    return join(mark, element("span", role(model), element("br"), link, class_="name"))


def _measured(model: ChosenModel, slug: str) -> Markup:
    latency, found = model.latency.get(slug), limit_verdict(model, slug)
    spread = None
    if latency and latency.p10_ms is not None and latency.p90_ms is not None:
        spread = element("small", f"{significant(latency.p10_ms)} – {significant(latency.p90_ms)}")
    note = None
    if model.kind == "winner" and found is not Verdict.NOT_MEASURED:
        note = element("small", f"{VERDICT_MARKS[found]} limit", class_="kept" if found.holds else "missed")
    return join(milliseconds(latency.measured_ms if latency else None), spread, note)


def _scores_note(data: ReportData) -> Markup | None:
    floors = [
        f"{name} {fixed(score, 1)}"
        for name, score in (
            ("copying the source", data.corpus.copy_bleu),
            ("translation of the nearest training source", data.corpus.nearest_bleu),
        )
        if score is not None
    ]
    notes: dict[str, Child] = {
        "Losses": "validation, bits a token: with inherited weights, and after training from scratch",
        "Measured": "median; below it p10 – p90",
        "Limit": VERDICT_RULE,
        "Floors": "BLEU without a model: " + ", ".join(floors) if floors else None,
        "BLEU": element("code", data.bleu_signature) if data.bleu_signature else None,
        "chrF": element("code", data.chrf_signature) if data.chrf_signature else None,
        "Caution": "one training run a model: differences of a few tenths of a BLEU may be chance",
    }
    return facts({name: value for name, value in notes.items() if value is not None})


def figures_of(
    title_id: str, title: str, lead: str, data: ReportData, drawn: Sequence[Sequence[Figure]]
) -> Markup | None:
    """A section of figures: one group for each device (the first figure of a group may be alone)."""
    groups: list[Markup] = []
    for device, group in zip(data.devices, drawn, strict=True):
        if group:
            heading = element("p", device.title, class_="device") if len(data.devices) > 1 else None
            groups.append(join(heading, element("div", [figure(one) for one in group], class_="figures")))
    return section(title_id, title, lead, groups) if groups else None


def titled(data: ReportData, device: int | None, one: Figure) -> Markup:
    """A figure in a grid where figures of several devices and of none stand together."""
    title = data.devices[device].title if device is not None and len(data.devices) > 1 else None
    return figure(one, device=title)


def networks(data: ReportData) -> Markup | None:
    """The models drawn side by side, each architecture once."""
    models: dict[str, list[ChosenModel]] = {}
    for model in sorted(data.chosen, key=lambda model: list(KIND_MARKS).index(model.kind)):
        models.setdefault(model.architecture.id, []).append(model)
    if not models:
        return None
    scale = Scale.of([model.architecture for model in data.chosen])
    lead = (
        "Bars are as wide as the layer: attention by its embedding width, cut into heads; the feed-forward network by "
        "its hidden width. Curves show which encoder layers a decoder layer attends to. All drawings share one scale."
    )
    drawings = [_network(data, same, scale) for same in models.values()]
    frame = element("div", drawings, class_="networks scroll", tabindex=0, role="region", aria_label="Architectures")
    return section("networks", "What they look like", lead, legend(), frame)


def _network(data: ReportData, same: Sequence[ChosenModel], scale: Scale) -> Markup:
    model = same[0]
    kinds = dict.fromkeys(m.kind for m in same)
    heading = [_net_heading(data, kind, [m for m in same if m.kind == kind]) for kind in kinds]
    below = element("p", element("code", model.architecture.id), f" · {count(model.params)} parameters")
    drawing = draw(model.architecture, scale)
    text = element("details", element("summary", "As text"), element("p", element("code", str(model.architecture))))
    return element(
        "article", element("div", heading), drawing, below, text, id=f"net-{model.architecture.id}", class_="net"
    )


def _net_heading(data: ReportData, kind: Kind, same: Sequence[ChosenModel]) -> Markup:
    """What a drawn architecture is, and below, smaller, for which devices and limits."""
    titles = {device.slug: device.title for device in data.devices}
    places = [
        " · ".join([f"≤ {limit(m.limit_ms)}"] * (m.limit_ms is not None) + [titles.get(m.device, m.device)])
        for m in same
        if m.device is not None
    ]
    mark = element("span", KIND_MARKS[kind], class_=f"mark {kind}", aria_hidden="true")
    return element("h3", mark, LEGEND[kind], [element("small", place) for place in places])


def translations(data: ReportData) -> Markup | None:
    """The first test sentences as the headline winners translate them."""
    winners = [winner for device in data.devices if (winner := headline_winner(data, device.slug)) and winner.samples]
    if not winners:
        return None
    blocks = []
    for winner in {winner.architecture.id: winner for winner in winners}.values():
        heading = element("h3", role(winner), " ", element("code", winner.architecture.id))
        items = [_sample(data, *texts) for texts in _texts(winner)]
        blocks.append(join(heading, element("ol", items, class_="samples")))
    return section("translations", "How they translate", "The first sentences of the test set, not chosen.", blocks)


def _texts(winner: ChosenModel) -> list[tuple[str, str, str]]:
    return [(one.source, one.reference, one.hypothesis) for one in winner.samples[:MAX_SAMPLES]]


def _sample(data: ReportData, source: str, reference: str, hypothesis: str) -> Markup:
    target = data.corpus.target_language
    same = element("span", " = reference", class_="same") if hypothesis == reference else None
    return element(
        "li",
        facts(
            {
                "Source": element("span", source, lang=data.corpus.source_language),
                "Model": join(element("span", hypothesis or "(empty)", lang=target, class_="hypothesis"), same),
                "Reference": element("span", reference, lang=target),
            }
        ),
    )


def provenance(data: ReportData) -> Markup:
    """What somebody needs who wants to repeat this."""
    source, corpus = data.provenance, data.corpus
    leak = told_leak(corpus.test_sources_in_train)
    general: dict[str, Child] = {
        "Created": source.created,
        "Seed": str(source.seed),
        "Commit": element("code", source.commit) if source.commit else UNKNOWN,
        "Corpus": f"{corpus.source_language} → {corpus.target_language}: {corpus.train_pairs:,} training, "
        f"{corpus.valid_pairs:,} validation, {corpus.test_pairs:,} test pairs; vocabulary {corpus.vocabulary_size:,}",
        **({} if corpus.train_told is None else {"Training text": corpus.train_told}),
        **({} if leak is None else {"Caution": leak}),
        "Search space": f"{data.space.name} ({data.space.id}): {data.space.size} architectures",
        "Versions": ", ".join(f"{name} {version}" for name, version in source.versions.items()) or UNKNOWN,
    }
    parts: list[Child] = [facts(general), _stages(data), _devices(data)]
    if data.protocol:
        parts += [element("h3", "How latency was measured"), facts(data.protocol)]
    recipe = element("details", element("summary", "Recipe"), element("pre", source.recipe_yaml, tabindex=0))
    note = element(
        "p", "The same figures as JSON: ", element("code", "report.json"), " beside this page.", class_="quiet"
    )
    return section("provenance", "How to repeat it", None, parts, recipe, note)


def _stages(data: ReportData) -> Markup | None:
    """The time by stage, in reports that were written before there was a ledger."""
    stages = data.provenance.stages
    if not stages or data.ledger is not None:  # the ledger tells it by stage, and more
        return None
    total = sum(stage.seconds for stage in stages)
    rows: list[list[Child]] = [
        [stage.name, duration(stage.seconds), f"{100 * stage.seconds / total if total else 0:.0f} %"]
        for stage in stages
    ]
    rows.append([element("strong", "all"), element("strong", duration(total)), ""])
    return join(element("h3", "Time by stage"), table(("Stage", "Wall time", "Share"), rows, caption="Time by stage"))


def _devices(data: ReportData) -> Markup:
    blocks = [
        join(element("h3", device.title), facts({"Id": element("code", device.slug), **device.facts}))
        for device in data.devices
    ]
    return join(*blocks)
