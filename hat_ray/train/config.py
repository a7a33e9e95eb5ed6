"""Settings of training, for the SuperTransformer and for one architecture from scratch alike."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hat_ray.core.config import StageConfig, canonical


class TrainConfig(StageConfig):
    """Training of a model. An update is one step of the optimiser."""

    execution_only: ClassVar[frozenset[str]] = frozenset(
        {
            *("workers", "min_workers", "threads", "use_gpu", "max_failures", "max_wait_s"),
            *("checkpoint_every", "keep_best", "valid_max_tokens", "tensorboard", "mlflow", "log_every"),
            "teacher",  # its content decides, not its place: a training's fingerprint covers the weights
        }
    )
    later: ClassVar[frozenset[str]] = frozenset(
        {"teacher", "teacher_share", "stop_after", "stop_on", "valid_bleu_lines", "average_best"}
    )

    updates: int = Field(default=1_000, ge=1)
    """Updates to train; `stop_after` may end a training before. The cosine schedule ends here."""
    max_tokens: int = Field(default=4_096, ge=1, le=100_000_000)
    """Size of a batch in tokens: sentence pairs times the longest side of any of them (fairseq's meaning)."""
    accumulate: int = Field(default=1, ge=1, le=1_000_000)
    """Batches an update, over all workers together; the workers share them out. HAT: 8 GPUs x 16 = 128 for WMT."""
    lr: float = Field(default=1e-3, gt=0)
    """Learning rate at the end of the warm-up, its highest value."""
    warmup_updates: int = Field(default=100, ge=0)
    """Updates in which the learning rate rises linearly. HAT: 10,000 (super) or 4,000 (sub) of 40,000."""
    warmup_init_lr: float = Field(default=1e-7, ge=0)
    """Learning rate of the first update of the warm-up."""
    schedule: Literal["inverse_sqrt", "cosine"] = "cosine"
    """Fall of the learning rate after the warm-up. HAT: cosine for WMT, inverse_sqrt for IWSLT."""
    min_lr: float = Field(default=1e-7, ge=0)
    """Learning rate at which the cosine schedule ends; inverse_sqrt does not use it."""
    adam_betas: tuple[float, float] = (0.9, 0.98)
    """Decay of Adam's running mean and running square."""
    adam_eps: float = Field(default=1e-8, gt=0)
    """Added to Adam's denominator."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay, a fraction of the learning rate (fairseq's Adam)."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target's probability that is spread over the whole vocabulary."""
    clip_norm: float = Field(default=0.0, ge=0)
    """Largest norm of the gradient of one update; 0 leaves gradients as they are (HAT)."""
    policy: Literal["uniform", "sandwich", "stratified"] = "uniform"
    """Which architectures an update of the SuperTransformer trains. `uniform`: one, each choice equally likely (HAT);
    `sandwich`: the largest, the smallest and random ones, gradients summed; `stratified`: one, each decoder depth in
    turn."""
    sandwich_random: int = Field(default=2, ge=0, le=1_000)
    """Random architectures an update of the sandwich trains, beside the largest and the smallest."""
    distillation: float = Field(default=0.0, ge=0, le=1)
    """Share of the loss that all but the largest architecture of a sandwich take from the largest's predictions instead
    of the reference; 0 for none."""
    teacher: str = ""
    """A trained model whose predictions of each word are learnt from beside the reference: a run folder (its first
    winner), a model folder, or a model of another program (fairseq's .pt, Marian's .npz, a Hugging Face folder). It
    must have the corpus's sub-words. Of section `retrain` also `largest`: the largest architecture of the run's own
    SuperTransformer, with the weights that it has there. Studies train without it. Empty: none."""
    teacher_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the loss that is taken from the `teacher`'s predictions instead of the reference."""
    sort_update: int | None = Field(default=None, ge=1)
    """With model.sharing=importance: the update at which channels are sorted; only the largest architecture is trained
    before it. Null: after a fifth of the updates."""
    hat_sampling: bool = False
    """Sample each update's architecture from HAT's own stream, `random.seed(update)`, whatever the recipe's seed."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of matrix products; weights, sums and the softmax stay in fp32. `bf16` and `fp16` pay on GPUs and on
    CPUs with instructions for them; `fp16` scales the loss against underflow."""
    compile: bool = False
    """Compile an architecture that is trained from scratch with torch.compile. Not for the SuperTransformer: each
    update has other shapes, and each shape would be compiled again."""
    validate_every: int = Field(default=500, ge=1)
    """Updates between validations; the last update is always validated."""
    valid_max_tokens: int = Field(default=4_096, ge=1, le=100_000_000)
    """Size of a validation batch in tokens, as in `max_tokens`."""
    valid_bleu_lines: int = Field(default=0, ge=0, le=1_000_000)
    """First lines of the validation set that each validation translates as well, greedily, for a BLEU of the training's
    progress (sacreBLEU's 13a); 0 for none. It is no score of the final model, which stage evaluate gives."""
    stop_after: int | None = Field(default=None, ge=1, le=1_000_000)
    """End a training once this many validations in a row brought nothing better than the best before them (patience).
    The cosine schedule does not know of it: ended early, a training has not had its lowest learning rates. So take
    final=best or average_best beside it, or schedule=inverse_sqrt. Null: train all `updates`."""
    stop_on: Literal["loss", "bleu"] = "loss"
    """What makes a validation better, for `stop_after` and for the best checkpoints: the lower validation `loss`, or
    the higher `bleu` of `valid_bleu_lines`."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Updates between checkpoints, the most that a crash can cost; the last update is always kept."""
    keep_last: int = Field(default=2, ge=1, le=10_000)
    """Checkpoints kept. Two at least are wise: a damaged one is skipped and the one before is used."""
    keep_best: bool = True
    """Keep the checkpoint with the best validation as well (fairseq's checkpoint_best): the lowest loss, or the highest
    BLEU with stop_on=bleu. With `stop_after`, final=best or final=average_best each validated update is a checkpoint;
    otherwise the best is one of those that `checkpoint_every` makes."""
    best_check: Literal["largest", "smallest", "model"] | None = None
    """Whose validation loss decides which checkpoint is best: the largest or the smallest architecture's of a
    SuperTransformer, or the `model` from scratch. Null: `largest`, or `model`."""
    average_last: int = Field(default=1, ge=1, le=10_000)
    """Checkpoints whose mean is the final model; 1 takes the last as it is."""
    average_best: int = Field(default=5, ge=1, le=10_000)
    """Checkpoints with the best validations whose mean is the final model, with final=average_best; all are kept."""
    final: Literal["average", "best", "average_best"] = "average"
    """The final model: `average` of the last checkpoints, the `best` checkpoint, or the mean of the best ones,
    `average_best`."""
    log_every: int = Field(default=100, ge=1)
    """Updates between the figures that TensorBoard and MLflow get; validations are always logged."""
    tensorboard: bool = True
    """Write TensorBoard event files, beside the checkpoints."""
    mlflow: str | None = None
    """Name of an MLflow experiment that gets the figures too, on the server that MLFLOW_TRACKING_URI names; needs the
    package mlflow. Null: none."""
    workers: int = Field(default=1, ge=1, le=100_000)
    """Ray Train workers that share each update. Models of section `retrain` are trained side by side by one worker
    each, where there are at least as many as workers."""
    min_workers: int | None = Field(default=None, ge=1)
    """Fewest workers to train with when nodes are missing. The others join within a minute of a node, and the updates
    since the newest checkpoint are made again. Ray counts all the CPUs (or GPUs) of a node, also those that other work
    keeps busy: leave this null on a cluster that training shares. Null: never fewer than `workers`. The number of
    workers changes only the rounding."""
    threads: int = Field(default=1, ge=1, le=4_096)
    """CPU threads of a worker."""
    use_gpu: bool = False
    """Give each worker a GPU."""
    max_failures: int = Field(default=3, ge=0)
    """Times that Ray Train replaces lost workers before training gives up. The count begins again, at that point, when
    there is a newer checkpoint than when it began."""
    max_wait_s: float = Field(default=1_800.0, ge=0)
    """Seconds to wait, without a new checkpoint in between, for nodes that were lost, that an autoscaler may still add,
    or that others keep busy, before training gives up. Nodes that are there but busy are asked every 20 seconds, one
    time more than fits into this."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Stop after this many seconds of training, validated and saved as if it were the last update; none by default."""

    @model_validator(mode="after")
    def _check_together(self) -> "TrainConfig":
        if self.accumulate < self.workers:
            raise ValueError(
                f"accumulate must be at least workers, got {self.accumulate} for {self.workers}: "
                "every worker needs a batch in each update"
            )
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers must not exceed workers, got {self.min_workers} above {self.workers}")
        self._check_ending()
        if self.schedule == "cosine" and self.min_lr > self.lr:
            raise ValueError(f"min_lr must not exceed lr, got {self.min_lr} above {self.lr}")
        if self.distillation > 0 and self.policy != "sandwich":
            raise ValueError(
                f"distillation needs policy sandwich, which trains the teacher in each update, got policy {self.policy}"
            )
        if self.distillation > 0 and self.teacher:
            raise ValueError(
                f"distillation {self.distillation:g} has the largest architecture as teacher, got teacher "
                f"{self.teacher!r} as well: leave one of them out"
            )
        if self.hat_sampling and self.policy != "uniform":
            raise ValueError(f"hat_sampling is HAT's uniform policy, got policy {self.policy}: leave one of them out")
        if not all(0 <= beta < 1 for beta in self.adam_betas):
            raise ValueError(f"adam_betas must lie in [0, 1), got {list(self.adam_betas)}")
        return self

    def _check_ending(self) -> None:
        """Raise ValueError where the settings of the end, and of the final model, contradict one another."""
        if self.final != "average" and not self.keep_best:
            raise ValueError(
                f"final={self.final} needs keep_best, which is switched off: switch it on, or take final=average"
            )
        if self.final == "best" and self.average_last > 1:
            raise ValueError(
                f"final=best averages nothing, got average_last {self.average_last}: leave one of them out"
            )
        if self.final == "average_best" and self.average_last > 1:
            raise ValueError(
                f"final=average_best takes the mean of the best checkpoints, got average_last {self.average_last} as "
                "well: set average_best instead"
            )
        if self.stop_on == "bleu" and not self.valid_bleu_lines:
            raise ValueError("stop_on=bleu needs valid_bleu_lines, got 0: set it, such as 500, or take stop_on=loss")

    @property
    def averaged(self) -> int:
        """Checkpoints that the final model is the mean of."""
        return {"average": self.average_last, "best": 1, "average_best": self.average_best}[self.final]

    @property
    def best_kept(self) -> int:
        """Checkpoints that are kept for their validations."""
        return (self.average_best if self.final == "average_best" else 1) if self.keep_best else 0

    @property
    def saves_validations(self) -> bool:
        """Whether each validated update is a checkpoint."""
        return self.final != "average" or (self.stop_after is not None and self.keep_best)

    @property
    def ending(self) -> dict[str, object]:
        """The settings that decide where a training ends and what its final model is, beside the weights learnt.

        Those at their defaults are left out.
        """
        found: dict[str, object] = {}
        if self.average_last > 1:
            found["average"] = [self.average_last, self.checkpoint_every]
        if self.final != "average":
            found["final"] = [self.final, self.averaged, self.validate_every, self.best_check]
        if self.stop_after is not None:
            found["stop"] = [self.stop_after, self.validate_every, self.best_check]
        return found

    @property
    def sorted_at(self) -> int:
        """The update at which channels are sorted, where they are; the null of `sort_update` resolved."""
        return self.sort_update or max(1, self.updates // 5)

    def what_is_learnt(self) -> dict[str, object]:
        """Return the settings that decide the weights; the others may change between a run and its resumption."""
        how = {"validate_every", "valid_max_tokens", "checkpoint_every", "keep_last", "average_last", "max_seconds"}
        after = {"best_check", "final", "average_best", "stop_after", "valid_bleu_lines"}  # scores follow `stop_on`
        included = set(TrainConfig.model_fields) - how - after - self.execution_only  # not what a subclass adds
        return {name: value for name, value in canonical(self).items() if name in included}


SCRATCH, INHERITED = "scratch", "inherited"
LARGEST = "largest"
"""The teacher of section `retrain` that the run's own SuperTransformer holds."""
Baseline = Literal["largest", "random", "scaled-depth", "scaled-width", "deep-shallow", "deep-shallow-ssru"]
"""What winners are compared with."""
Start = Annotated[str, Field(min_length=1)]


class SupernetConfig(TrainConfig):
    """Training of the SuperTransformer, from random weights or from a trained model."""

    later: ClassVar[frozenset[str]] = TrainConfig.later | {"init"}

    init: str | None = Field(default=None, min_length=1)
    """Trained model that the SuperTransformer starts from: a file or folder of HAT, fairseq, Marian, Hugging Face or
    hat-ray. Its widths are the largest of the space, and its vocabulary is the corpus's; `hat-ray space around` writes
    such a space. Channels are sorted by importance before the first update. Null: random weights."""

    @model_validator(mode="after")
    def _check_teacher(self) -> "SupernetConfig":
        if self.teacher == LARGEST:
            raise ValueError(
                "teacher=largest is of section retrain: the SuperTransformer is taught by its own largest architecture "
                "with policy=sandwich and distillation=0.5"
            )
        return self


class InheritedConfig(StageConfig):
    """Settings of trainings that start from trained weights (`init: inherited`, or a file) where they differ.

    They need fewer updates than from scratch, and a lower learning rate, which spares what is learnt already.
    """

    updates: int | None = Field(default=None, ge=1)
    """Updates to train, the length of their own schedule. Null: as many as from scratch."""
    lr: float | None = Field(default=None, gt=0)
    """Highest learning rate. Null: a third of that from scratch."""
    warmup_updates: int | None = Field(default=None, ge=0)
    """Updates in which the learning rate rises. Null: the same share of the updates as from scratch."""


class RetrainConfig(TrainConfig):
    """Training of the chosen architectures, and of those that they are compared with."""

    later: ClassVar[frozenset[str]] = TrainConfig.later | {"init", "inherited", "seeds"}

    init: Start | tuple[Start, ...] = SCRATCH
    """What these trainings start from: `scratch` (random weights), `inherited` (the weights that an architecture has in
    the SuperTransformer; HAT, table 6), or the file or folder of a trained model whose widths are the largest of the
    space. Of a list the first makes the models that are timed, compared and exported; the winners are trained from each
    of the others as well, and the report shows losses and scores side by side."""

    baselines: tuple[Baseline, ...] = ("largest", "random", "scaled-depth", "scaled-width", "deep-shallow")
    """What the winners are compared with, each trained and scored like a winner. `largest`: the largest architecture of
    the space. `random`: architectures drawn at random. The others are what an engineer would draw by hand, the slowest
    that keeps the winner's limit as timed on its device: `scaled-depth`, the largest with layers removed equally from
    encoder and decoder; `scaled-width`, the largest with all widths shrunk equally; `deep-shallow`, the deepest encoder
    of the space with two decoder layers or one; `deep-shallow-ssru`, the same with SSRU layers in the decoder, if the
    space has them. Each of these costs one more training for each winner. Where models start from trained weights
    (`init`), each of these is the nearest architecture of the space, which inherits like the winner."""
    random_rivals: int = Field(default=1, ge=1, le=1_000)
    """Random architectures for each winner, of no lower predicted latency. Several show how much chance gives: 5 in a
    study."""
    seeds: int = Field(default=1, ge=1, le=1_000)
    """Trainings of each model, with another seed each: mean and spread of their scores are reported. The weights of the
    first one are what `export` and `translate` take: to choose the best one would flatter its score. With one training
    a model the spread is not known."""

    inherited: InheritedConfig = InheritedConfig()
    """Updates and learning rate of the trainings that start from trained weights."""

    @property
    def from_trained(self) -> "RetrainConfig":
        """The settings of trainings that start from trained weights."""
        own = self.inherited
        updates, lr = own.updates or self.updates, own.lr or self.lr / 3
        share = self.warmup_updates * updates // self.updates
        warmup = share if own.warmup_updates is None else own.warmup_updates
        changes = {"updates": updates, "lr": lr, "warmup_updates": warmup, "min_lr": min(self.min_lr, lr)}
        return self.model_copy(update=changes)

    @property
    def starts(self) -> tuple[str, ...]:
        """What trainings start from, that of the main models first."""
        return (self.init,) if isinstance(self.init, str) else self.init

    @model_validator(mode="after")
    def _check_starts(self) -> "RetrainConfig":
        if not self.starts or len(set(self.starts)) != len(self.starts):
            raise ValueError(f"init needs one start, or several that differ, got {list(self.starts)}")
        return self

    @model_validator(mode="after")
    def _check_baselines(self) -> "RetrainConfig":
        if len(set(self.baselines)) != len(self.baselines):
            raise ValueError(f"baselines must differ, got {list(self.baselines)}: name each once")
        return self
