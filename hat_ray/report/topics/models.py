"""The models: what was found, all that were built, how they look and translate, and how to repeat it."""

from dataclasses import dataclass

from hat_ray.core.text import UNKNOWN, bound_digits, count, duration, fixed, milliseconds, signed, significant
from hat_ray.corpus.corpus import leak_warning
from hat_ray.latency.quantities import QUANTITIES
from hat_ray.report.chart import LEGEND, MARKS
from hat_ray.report.data import ChosenModel, Device, Latency, ReportData, Translation, start_words
from hat_ray.report.findings import findings
from hat_ray.report.gains import ONE_SEED, gain_sentence, score_text
from hat_ray.report.network import Drawing, Scale, draw
from hat_ray.report.reading import (
    BY_HAND,
    VERDICT_MARKS,
    VERDICT_RULE,
    BoundFigure,
    bound_figures,
    compare,
    headline_winner,
    latency_ms,
    limit_verdict,
    mean_spread,
    role,
)
from hat_ray.report.tables import AnyCell, Cell, Facts, Note, Table
from hat_ray.search.limits import Verdict
from hat_ray.search.selection import HAND_SCALED, Kind

MAX_SAMPLES = 6


@dataclass(frozen=True)
class Tile:
    """A figure that matters, large, and what it is below it."""

    value: str
    unit: str
    below: str


@dataclass(frozen=True)
class Card:
    """What was found on one device."""

    device: str
    tiles: tuple[Tile, ...] = ()
    finding: str = ""
    others: tuple[tuple[str, str], ...] = ()
    """The winners of the device's other limits: what each was chosen for, and its figures."""


@dataclass(frozen=True)
class Results:
    """The models that were built: a table a device, under its title, and how to read them."""

    tables: tuple[tuple[str, Table], ...]
    notes: Facts


@dataclass(frozen=True)
class Heading:
    """What a drawn architecture is, and below, smaller, for which devices and limits."""

    kind: Kind
    text: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Network:
    """A drawn architecture, with a line below it."""

    id: str
    drawing: Drawing
    below: str
    text: str
    headings: tuple[Heading, ...] = ()


@dataclass(frozen=True)
class Translations:
    """Test sentences as one model translates them."""

    role: str
    architecture_id: str
    samples: tuple[Translation, ...]


@dataclass(frozen=True)
class Origin:
    """Facts for repeating the run."""

    general: Facts
    stages: Table | None
    devices: tuple[tuple[str, Facts], ...]
    protocol: Facts
    recipe_yaml: str


def cards(data: ReportData) -> tuple[Card, ...]:
    """Return the results, one card a device."""
    return tuple(_card(data, device) for device in data.devices)


def _card(data: ReportData, device: Device) -> Card:
    winner = headline_winner(data, device.slug)
    if winner is None:
        return Card(device.heading)
    finding = " ".join(findings(data, winner, device.slug))
    return Card(device.heading, _tiles(data, winner, device.slug), finding, _others(data, winner))


def _others(data: ReportData, headline: ChosenModel) -> tuple[tuple[str, str], ...]:
    slug = headline.device or ""
    return tuple(
        (
            role(winner),
            f"{milliseconds(latency_ms(winner, slug))} · {score_text(winner)} BLEU. "
            f"{gain_sentence(data, winner, slug)}".strip(),
        )
        for winner in data.winners(slug)
        if winner is not headline
    )


def _tiles(data: ReportData, winner: ChosenModel, slug: str) -> tuple[Tile, ...]:
    """Return the few figures that matter."""
    largest = data.first("largest")
    compared = compare(winner, largest, slug) if largest and largest.architecture != winner.architecture else None
    below = f"limit {winner.limit.text}" if winner.limit else "a sentence"
    tiles = [Tile(significant(latency_ms(winner, slug)), "ms", below)]
    if compared and compared.speedup is not None:
        tiles.append(Tile(f"{fixed(compared.speedup, 1)}×", "", "as fast as the largest"))
    if winner.bleu is not None:
        gain = compared.bleu if compared else None
        against = f"{signed(gain, 1)} against the largest" if gain is not None else "test set"
        tiles.append(Tile(fixed(winner.bleu, 1), "BLEU", against))
    return tuple(tiles)


def results(data: ReportData) -> Results | None:
    """Return the tables of the models that were built."""
    if not data.chosen:
        return None
    tables = [(device.heading, _results_table(data, device)) for device in data.devices]
    tables += bounds_tables(data)
    starts = starts_table(data)
    tables += [] if starts is None else [("What training started from", starts)]
    return Results(tuple(tables), _notes(data))


def bounds_tables(data: ReportData) -> list[tuple[str, Table]]:
    """Return the tables of bounds, of devices whose limits bound more than the latency, under their titles."""
    return [
        (f"Limits on {device.title}", bounds_table(data, device))
        for device in data.devices
        if any(model.quantities for model in data.winners(device.slug))
    ]


def starts_table(data: ReportData) -> Table | None:
    """Return the winners after training from each start, side by side; None where all had one start."""
    several = [model for model in data.chosen if model.kind == "winner" and len(model.trained.starts) > 1]
    if not several:
        return None
    rows: list[list[AnyCell]] = []
    for model in several:
        first = Cell(role(model), kind="winner", architecture=model.architecture.id)
        rows.append([first, "before training", "0", fixed(model.inherited_loss_bits, 3), UNKNOWN])
        for start in model.trained.starts:
            trainings = model.trained.begun_from(start)
            losses, scores = [one.loss_bits for one in trainings], model.scores_of(trainings)
            updates = f"{trainings[0].updates:,}"
            rows.append([first, start_words(start), updates, mean_spread(losses, 3), mean_spread(scores, 1)])
    return Table("The winners by start", ("Model", "Start", "Updates", "Loss", "BLEU"), rows, text_columns=2)


def bounds_table(data: ReportData, device: Device) -> Table:
    """Return each bound of a device's limits, for winners and their random rivals: predicted, measured, and kept."""
    limited = [model for model in data.models_on(device.slug) if model.device == device.slug]
    rows = [_bound_row(model, one) for model in limited for one in bound_figures(model, device.slug)]
    columns = ("Model", "Quantity", "At most", "Predicted", "90 % interval", "Measured", "Kept")
    return Table(f"What the limits on {device.title} bound", columns, rows, text_columns=2)


def _bound_row(model: ChosenModel, one: BoundFigure) -> list[AnyCell]:
    facts = QUANTITIES.facts(one.name)
    return [
        Cell(role(model), kind=model.kind, architecture=model.architecture.id),
        facts.title,
        f"{bound_digits(one.most)} {facts.unit}",
        significant(one.predicted),
        "" if one.low is None else f"{significant(one.low)} – {significant(one.high)}",
        significant(one.measured),
        f"{VERDICT_MARKS[one.verdict]} {one.verdict}".strip(),
    ]


def _results_table(data: ReportData, device: Device) -> Table:
    with_chrf = any(model.chrf is not None for model in data.chosen)
    scores = ("BLEU", "chrF") if with_chrf else ("BLEU",)
    after = data.begun[0].upper() + data.begun[1:]
    others = ("Measured", "Predicted", "Speed", "Parameters", "FLOPs", "Inherited", after)
    rows = [_result_row(data, model, device.slug, with_chrf) for model in data.models_on(device.slug)]
    return Table(f"The models on {device.title}", ("Model", *scores, *others), rows)


def _result_row(data: ReportData, model: ChosenModel, slug: str, with_chrf: bool) -> list[AnyCell]:
    largest, latency = data.first("largest"), model.latency.get(slug, Latency())
    speedup = compare(model, largest, slug).speedup if largest else None
    return [
        Cell(role(model), kind=model.kind, architecture=model.architecture.id),
        Cell(score_text(model), _matching_notes(model), style="strong"),
        *([fixed(model.chrf, 1)] if with_chrf else []),
        _measured(model, slug),
        milliseconds(latency.predicted_ms),
        f"{fixed(speedup, 2)}×" if speedup is not None else UNKNOWN,
        count(model.params),
        count(model.flops),
        fixed(model.inherited_loss_bits, 3),
        mean_spread([one.loss_bits for one in model.trained.repeats], 3),
    ]


def _matching_notes(model: ChosenModel) -> tuple[Note, ...]:
    """Return how a model that is scaled by hand came to be, where that is not the usual way."""
    found = model.matching
    if found is None:
        return ()
    predicted = () if found.measured else (Note("by prediction"),)
    return (*predicted, *((Note("outside the space"),) if found.outside else ()))


def _measured(model: ChosenModel, slug: str) -> Cell:
    latency = model.latency.get(slug, Latency())
    notes = []
    if latency.p10_ms is not None and latency.p90_ms is not None:
        notes.append(Note(f"{significant(latency.p10_ms)} – {significant(latency.p90_ms)}"))
    verdict = limit_verdict(model, slug)
    if model.kind == "winner" and verdict is not Verdict.NOT_MEASURED:
        notes.append(Note(f"{VERDICT_MARKS[verdict]} limit", "kept" if verdict.holds else "missed"))
    return Cell(milliseconds(latency.measured_ms), tuple(notes))


def _multi_bleu(data: ReportData) -> Cell | None:
    """Return the models' multi-bleu with its signature, where it was asked for: a figure apart from sacreBLEU's."""
    scored = [(role(one), one.score) for one in data.chosen if one.score is not None]
    named = [f"{name} {fixed(score.multi_bleu, 1)}" for name, score in scored if score.multi_bleu is not None]
    signatures = [score.multi_bleu_signature for _, score in scored if score.multi_bleu_signature]
    return Cell(f"{', '.join(named)} ({signatures[0]})", style="code") if named and signatures else None


def _notes(data: ReportData) -> Facts:
    floors = [
        f"{name} {fixed(score, 1)}"
        for name, score in (
            ("copying the source", data.corpus.copy_bleu),
            ("translation of the nearest training source", data.corpus.nearest_bleu),
        )
        if score is not None
    ]
    notes: dict[str, AnyCell | None] = {
        "Losses": f"validation, bits a token: with inherited weights, and after training {data.begun}",
        "Measured": "median; below it p10 – p90",
        "Limit": VERDICT_RULE,
        "Floors": "BLEU without a model: " + ", ".join(floors) if floors else None,
        "BLEU": Cell(data.bleu_signature, style="code") if data.bleu_signature else None,
        "chrF": Cell(data.chrf_signature, style="code") if data.chrf_signature else None,
        "multi-bleu": _multi_bleu(data),
        "By hand": _by_hand(data),
        "Seeds": _seeds(data),
    }
    return {name: value for name, value in notes.items() if value is not None}


def _by_hand(data: ReportData) -> str | None:
    """Return what models scaled by hand are, and which limits have none."""
    if not any(model.kind in HAND_SCALED for model in data.chosen) and not data.missing:
        return None
    missing = "; ".join(f"{BY_HAND[one.kind].lower()} for ≤ {one.limit.text}: {one.reason}" for one in data.missing)
    text = (
        "of each family the slowest member that keeps the limit as timed on the device; it may lie outside of the "
        "search space, and is trained from scratch then"
    )
    return f"{text}. Without a member: {missing}" if missing else text


def _seeds(data: ReportData) -> str:
    seeds = max(len(model.trained.repeats) for model in data.chosen)
    p = "p: paired bootstrap over the test set's sentences"
    if seeds == 1:
        return f"{ONE_SEED}, so that differences of a few tenths of a BLEU may be chance; {p}"
    return (
        f"{seeds} trainings of each model: mean ± sample standard deviation; timing and translations are of the first "
        f"seed; {p}, the least favourable seed's"
    )


def networks(data: ReportData) -> tuple[Network, ...]:
    """Draw the models side by side, each architecture once."""
    models: dict[str, list[ChosenModel]] = {}
    for model in sorted(data.chosen, key=lambda model: list(MARKS).index(model.kind)):
        models.setdefault(model.architecture.id, []).append(model)
    if not models:
        return ()
    scale = Scale.of([model.architecture for model in data.chosen])
    return tuple(_network(data, same, scale) for same in models.values())


def _network(data: ReportData, same: list[ChosenModel], scale: Scale) -> Network:
    architecture = same[0].architecture
    kinds = dict.fromkeys(model.kind for model in same)
    headings = tuple(_heading(data, kind, [m for m in same if m.kind == kind]) for kind in kinds)
    below = f"{count(same[0].params)} parameters"
    return Network(architecture.id, draw(architecture, scale), below, str(architecture), headings)


def _heading(data: ReportData, kind: Kind, same: list[ChosenModel]) -> Heading:
    titles = {device.slug: device.title for device in data.devices}
    places = [
        " · ".join([f"≤ {m.limit.text}", titles.get(m.limit.device, m.limit.device)])
        for m in same
        if m.limit is not None
    ]
    return Heading(kind, LEGEND[kind], tuple(places))


def translations(data: ReportData) -> tuple[Translations, ...]:
    """Return the first test sentences as the headline winners translate them."""
    winners = [winner for device in data.devices if (winner := headline_winner(data, device.slug)) and winner.samples]
    return tuple(
        Translations(role(winner), winner.architecture.id, winner.samples[:MAX_SAMPLES])
        for winner in {winner.architecture.id: winner for winner in winners}.values()
    )


def origin(data: ReportData) -> Origin:
    """Return the facts for repeating the run."""
    return Origin(
        general=_general(data),
        stages=_stages(data),
        devices=tuple(
            (device.title, {"Id": Cell(device.slug, style="code"), **device.facts}) for device in data.devices
        ),
        protocol=data.protocol,
        recipe_yaml=data.provenance.recipe_yaml,
    )


def _general(data: ReportData) -> Facts:
    source, corpus = data.provenance, data.corpus
    leak = leak_warning(corpus.test_sources_in_train, corpus.valid_sources_in_train)
    return {
        "Created": source.created,
        "Seed": str(source.seed),
        "Commit": Cell(source.commit, style="code") if source.commit else UNKNOWN,
        "Corpus": f"{corpus.source_language} → {corpus.target_language}: {corpus.train_pairs:,} training, "
        f"{corpus.valid_pairs:,} validation, {corpus.test_pairs:,} test pairs; vocabulary {corpus.vocabulary_text}",
        **({} if corpus.train_text is None else {"Training text": corpus.train_text}),
        **({} if leak is None else {"Caution": leak}),
        **{f"Text, caution {number}": line for number, line in enumerate(corpus.text_findings, 1)},
        "Search space": f"{data.space.name} ({data.space.id}): {data.space.size} architectures",
        "Versions": ", ".join(f"{name} {version}" for name, version in source.versions.items()) or UNKNOWN,
    }


def _stages(data: ReportData) -> Table | None:
    """Return the time by stage of a report without a ledger, which includes it."""
    stages = data.provenance.stages
    if not stages or data.ledger is not None:
        return None
    total = sum(stage.seconds for stage in stages)
    rows: list[list[AnyCell]] = [
        [stage.name, duration(stage.seconds), f"{100 * stage.seconds / total if total else 0:.0f} %"]
        for stage in stages
    ]
    rows.append([Cell("all", style="strong"), Cell(duration(total), style="strong"), ""])
    return Table("Time by stage", ("Stage", "Wall time", "Share"), rows)
