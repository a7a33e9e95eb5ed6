"""All that a report shows, as plain frozen values: what `report.json` holds, and what the page is drawn from.

Devices are named by their slug everywhere; their titles stand once, in `ReportData.devices`. A figure that was not
measured is None and shows as a dash: a report of an unfinished or failed run is still a report.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import ClassVar

from hat_ray.evaluate.evaluate import Score
from hat_ray.evaluate.significance import PairedComparison
from hat_ray.latency.effects import SweepResult
from hat_ray.predictor.assess import Assessment
from hat_ray.predictor.quality import Quality
from hat_ray.report.bounds import Prices
from hat_ray.report.ledger import Ledger
from hat_ray.search.candidates import Candidate
from hat_ray.search.engine.finalists import Finals
from hat_ray.search.frontier import frontier
from hat_ray.search.limits import Limit
from hat_ray.search.selection import HAND_SCALED, Kind, MissingRival, RetrainedModel, SelectedModel, TrainedOnce
from hat_ray.search.winners import LimitedQuantity, RuntimeRanking
from hat_ray.space.json_field import ArchitectureField
from hat_ray.studies.results import PolicyStudy, RankingResult
from hat_ray.train.config import INHERITED, SCRATCH
from hat_ray.train.state import CurvePoint, Ending


@dataclass(frozen=True)
class Device:
    """One device that models were chosen for."""

    slug: str
    title: str
    """Its name for readers, such as "Raspberry Pi 4, 1 thread, eager fp32"."""
    facts: dict[str, str] = field(default_factory=dict)
    """Name and value of what else is known: cores, clock, memory, driver, number of timed architectures, ..."""
    largest_ms: float | None = None
    """What the largest architecture of the space takes on it, predicted as the candidates are."""
    attached: bool = True
    """Whether the run timed on it; False: only a latency table knows it, and nothing was timed again."""

    @property
    def heading(self) -> str:
        """Its title, and where only a table knows it a note of that."""
        return self.title if self.attached else f"{self.title}, from a latency table: nothing was timed again"


@dataclass(frozen=True)
class RuntimeContest(RuntimeRanking):
    """What each runtime of one machine has under one limit, also where only one of them keeps it."""

    without: tuple[str, ...] = ()
    """Settings of the machine's other runtimes, which have no winner under this limit."""


@dataclass(frozen=True)
class CorpusFacts:
    """The text that the models were trained and tested on, with the scores that need no model."""

    source_language: str
    target_language: str
    train_pairs: int
    valid_pairs: int
    test_pairs: int
    vocabulary_size: int
    copy_bleu: float | None = None
    nearest_bleu: float | None = None
    fingerprint: str | None = None
    """Hash of the text and of how it was prepared: losses compare where it is equal."""
    test_set: str | None = None
    """Hash of the test set's sentences as they were scored: BLEU compares where it is equal."""
    train_text: str | None = None
    """Training pairs kept of those read, and why the rest went, in words."""
    test_sources_in_train: int | None = None
    """Test sources that the models were trained on."""
    valid_sources_in_train: int = 0
    """Validation sources that the models were trained on."""
    text_findings: tuple[str, ...] = ()
    """Places of the text whose sides do not belong together, in words."""
    target_vocabulary_size: int | None = None
    """Entries of the target's own vocabulary, `vocabulary_size` are then the source's; None: both sides share one."""

    @property
    def vocabulary_text(self) -> str:
        """Entries of the vocabulary, or of both, in words."""
        own = self.target_vocabulary_size
        return f"{self.vocabulary_size:,}" if own is None else f"{self.vocabulary_size:,} and {own:,}"


@dataclass(frozen=True)
class SpaceFacts:
    """The search space; `size` is its exact number of different architectures, as text (JSON numbers are too small)."""

    name: str
    id: str
    size: str


@dataclass(frozen=True)
class LossCurve:
    """Validation loss (bits a token) of one model by update."""

    name: str
    points: tuple[tuple[int, float | None], ...]


@dataclass(frozen=True)
class TrainingFacts:
    """How one training went."""

    name: str
    ended: Ending
    updates: int
    """Updates made."""
    tokens: int
    """Target tokens trained on."""
    seconds: float
    made_of: tuple[int, ...] = ()
    """Updates of the checkpoints that the final model is the mean of."""
    best_update: int | None = None
    """Update of the best validation."""
    curve: tuple[CurvePoint, ...] = ()
    bleu: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """BLEU of validations by update, by the model that was validated."""


@dataclass(frozen=True)
class TimedArchitecture:
    """One row of the latency table."""

    architecture: ArchitectureField
    device: str
    params: int
    flops: int
    measured_ms: float


@dataclass(frozen=True)
class PredictionPair:
    """An architecture that the predictor had not seen: predicted and measured milliseconds."""

    architecture_id: str
    predicted_ms: float
    measured_ms: float
    slow: bool = False
    """Whether it was timed in a slow stretch of the device, and so not learned from."""


@dataclass(frozen=True)
class PredictorFacts:
    """How well latency is predicted on one device, from held-out architectures only."""

    device: str
    quality: Quality
    pairs: tuple[PredictionPair, ...] = ()
    assessment: Assessment | None = None


@dataclass(frozen=True)
class SearchTrack:
    """The best loss found under one limit, by the number of architectures scored so far."""

    limit: Limit
    points: tuple[tuple[int, float | None], ...]


@dataclass(frozen=True)
class Latency:
    """One model on one device, in milliseconds a sentence."""

    predicted_ms: float | None = None
    measured_ms: float | None = None
    """Median of the final measurement."""
    p10_ms: float | None = None
    p90_ms: float | None = None
    relative_error: float | None = None
    """Relative standard error of the measured median."""
    low_ms: float | None = None
    """Between this and `high_ms` it lies with a probability of 90 %, as predicted."""
    high_ms: float | None = None


@dataclass(frozen=True)
class Translation:
    """One test sentence."""

    source: str
    reference: str
    hypothesis: str


@dataclass(frozen=True, kw_only=True)
class ChosenModel(SelectedModel):
    """A model that was retrained, measured and scored: a winner of the search or a baseline.

    A winner belongs to one limit on one device. A `random` baseline (drawn at random, of no lower latency) and one that
    is scaled by hand belong to the winner of the same limit that they are compared with; `largest` to no device.
    """

    params: int
    flops: int
    trained: RetrainedModel
    score: Score | None = None
    other_scores: dict[str, Score] = field(default_factory=dict)
    """Scores of its other trainings, by their folders."""
    latency: dict[str, Latency] = field(default_factory=dict)
    """By device slug."""
    quantities: dict[str, LimitedQuantity] = field(default_factory=dict)
    """What the model's limit bounds beside the latency, by name: a winner's, and the random rival's under the same."""
    size_mb: dict[str, float] = field(default_factory=dict)
    """The size of the stored model in MB, by device slug; none where its runtime reports no size."""
    samples: tuple[Translation, ...] = ()

    @property
    def device(self) -> str | None:
        """The device of its limit."""
        return self.limit.device if self.limit else None

    @property
    def inherited_loss_bits(self) -> float | None:
        """The validation loss with inherited weights; None where the model gave no number."""
        return _known(self.trained.inherited_loss_bits)

    @property
    def trained_loss_bits(self) -> float | None:
        """The validation loss after training, of the first seed; None where the model gave no number."""
        return _known(self.trained.trainings[0].loss_bits)

    @property
    def bleus(self) -> list[float]:
        """BLEU of each seed from the main start; empty where one was not scored."""
        found = self.scores_of(self.trained.repeats)
        return [] if None in found else [value for value in found if value is not None]

    @property
    def bleu(self) -> float | None:
        """The mean over seeds."""
        return fmean(self.bleus) if self.bleus else None

    @property
    def bleu_spread(self) -> float | None:
        """The sample standard deviation over seeds; None with one seed: it is not known."""
        return stdev(self.bleus) if len(self.bleus) > 1 else None

    def scores_of(self, trainings: Sequence[TrainedOnce]) -> list[float | None]:
        """Return the BLEU of some of its trainings; None where one was not scored."""
        main = self.trained.trainings[0].folder
        known = {**({} if self.score is None else {main: self.score}), **self.other_scores}
        return [known[one.folder].bleu if one.folder in known else None for one in trainings]

    @property
    def chrf(self) -> float | None:
        return self.score.chrf if self.score else None


_WORDS = {SCRATCH: "from scratch", INHERITED: "from inherited weights"}


def start_words(start: str) -> str:
    """Return what a training started from, in words: the name of a file is its last part."""
    return _WORDS.get(start) or f"from {start.rstrip('/').rpartition('/')[2]}"


def _known(loss_bits: float) -> float | None:
    return loss_bits if math.isfinite(loss_bits) else None


@dataclass(frozen=True)
class StageTime:
    """One stage of the pipeline and the wall time that it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Provenance:
    """Facts for repeating the run."""

    recipe_yaml: str
    seed: int
    created: str
    """UTC, ISO 8601."""
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    stages: tuple[StageTime, ...] = ()


@dataclass(frozen=True)
class ReportData:
    """One run, whole."""

    FORMAT: ClassVar[int] = 6

    name: str
    """The run's or recipe's name."""
    corpus: CorpusFacts
    space: SpaceFacts
    devices: tuple[Device, ...]
    chosen: tuple[ChosenModel, ...]
    provenance: Provenance
    candidates: tuple[Candidate, ...] = ()
    """Those of the search that were scored whole, with the model size on each device that knows it."""
    supernet: tuple[LossCurve, ...] = ()
    retraining: tuple[LossCurve, ...] = ()
    trainings: tuple[TrainingFacts, ...] = ()
    """The training of the SuperTransformer, then those of the models that were built."""
    timed: tuple[TimedArchitecture, ...] = ()
    predictors: tuple[PredictorFacts, ...] = ()
    searches: tuple[SearchTrack, ...] = ()
    bleu_signature: str | None = None
    chrf_signature: str | None = None
    protocol: dict[str, str] = field(default_factory=dict)
    """How latency was measured: batch, beam, lengths, threads, runtime, ..."""
    sweep: SweepResult | None = None
    """Latency against each single dimension of the space, on each device."""
    ranking: RankingResult | None = None
    """How well inherited weights rank architectures."""
    policies: PolicyStudy | None = None
    """Training policies compared."""
    runtimes: tuple[RuntimeContest, ...] = ()
    """Which runtime wins each limit, where one machine has several."""
    comparisons: tuple[PairedComparison, ...] = ()
    """Each winner with each of its rivals, by paired bootstrap."""
    missing: tuple[MissingRival, ...] = ()
    """Families of models scaled by hand that have none under a limit."""
    finals: Finals | None = None
    """The finalists of the search; None where it had none."""
    prices: Prices | None = None
    """Which bounds decide the winners, and what looser ones would buy; None without winners."""
    ledger: Ledger | None = None
    """What the run took: device time, energy, CO2."""

    @property
    def begun(self) -> str:
        """What the models' training started from, in words after a verb: `from scratch`."""
        return start_words(self.chosen[0].trained.start if self.chosen else SCRATCH)

    def frontier(self, device: str) -> tuple[Candidate, ...]:
        """Return the candidates that no other one beats in both loss and latency, the fastest first.

        It is the search's own frontier: a latency that the search measured counts in the place of the predicted one.
        """
        return frontier([one for one in self.candidates if device in one.latency_ms], device)

    def winners(self, device: str) -> tuple[ChosenModel, ...]:
        """Return a device's winners, the tightest limit first."""
        found = [(one.limit, one) for one in self.chosen if one.kind == "winner" and one.limit is not None]
        of_device = [(limit.order, one) for limit, one in found if limit.device == device]
        return tuple(one for _, one in sorted(of_device, key=lambda pair: pair[0]))

    def models_on(self, device: str) -> tuple[ChosenModel, ...]:
        """Return the winners of a device, then the baselines that may be compared with them."""
        order = (*HAND_SCALED, "random", "largest")
        baselines = [m for m in self.chosen if m.kind != "winner" and m.device in (None, device)]
        return (*self.winners(device), *sorted(baselines, key=lambda m: order.index(m.kind)))

    def first(self, kind: Kind) -> ChosenModel | None:
        """Return the first model of a kind."""
        return next((model for model in self.chosen if model.kind == kind), None)
