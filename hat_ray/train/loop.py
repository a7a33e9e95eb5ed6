"""The training loop, one for the SuperTransformer and for an architecture from scratch, on one worker or on many.

Decisions
- Everything that an update does follows from (seed, update): its architecture, its batches, its dropout, its learning
  rate. So a checkpoint needs no generator states, and a resumed run equals an unbroken one bit by bit.
- Dropout is seeded for each batch of an update, not for each worker: two workers draw what one worker with twice the
  accumulation draws.
- Gradients are summed over the tokens of all batches of all workers, then divided by the number of those tokens
  (fairseq's): how an update is cut into batches does not weight its tokens.
- HAT's gradient semantics: layers that the sampled architecture skips keep no gradient and Adam leaves them alone;
  slices that it does not use get zeros, and Adam's momentum moves them.
- Running sums stay on the device; a number is fetched only when it is read. Between validations, log lines and points
  of the curve no update waits for a GPU; only fp16's overflow, and a time limit that several workers agree on, do.
"""

import functools
import logging
import math
import operator
import time
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

from hat_ray.core.determinism import stream_seed
from hat_ray.core.progress import Progress
from hat_ray.corpus.batches import Batch
from hat_ray.corpus.vocabulary import PAD
from hat_ray.errors import CheckpointError, HatRayError
from hat_ray.model.transformer import Output
from hat_ray.train.checkpoints import MODEL, Checkpoint, CheckpointStore
from hat_ray.train.config import TrainConfig
from hat_ray.train.data import BatchSource, TrainingTask, ValidationLoss
from hat_ray.train.metrics import Meter, MetricSink, NullSink
from hat_ray.train.objective import LossSums, smoothed_loss
from hat_ray.train.optimizer import Adam, Precision, learning_rate
from hat_ray.train.state import CurvePoint, Ending, TrainPoint, TrainResult, TrainState
from hat_ray.train.validation.best import best_check, gave_up, score_of
from hat_ray.train.validation.bleu import ValidationBleu
from hat_ray.train.workers import NodeLeavesError, Workers, sum_over_workers, wait_for_all

log = logging.getLogger(__name__)

_POINTS_OF_A_CURVE = 100
_UPDATES_BETWEEN_LOOKS = 10
"""Updates after which workers ask each other whether they may stay: a few milliseconds."""


class Training:
    """One training on one worker: `run` resumes from the newest whole checkpoint, or begins, and goes to the end."""

    def __init__(
        self,
        task: TrainingTask,
        batches: BatchSource,
        validation: ValidationLoss,
        config: TrainConfig,
        store: CheckpointStore,
        workers: Workers,
        seed: int,
        sink: MetricSink | None = None,
        bleu: ValidationBleu | None = None,
    ) -> None:
        self._sink, self._bleu = sink or NullSink(), bleu
        self._best_check = best_check(config, task.checks)
        self._task, self._batches, self._validation = task, batches, validation
        self._config, self._store, self._workers, self._seed = config, store, workers, seed
        self._model = task.model.to(workers.device)
        self._precision = Precision(config.precision, workers.device.type)
        self._adam = Adam(self._model, config)
        self._state = TrainState()
        self._sums = torch.zeros(3, dtype=torch.float64, device=workers.device)  # TrainState.sums, on the device
        self._recent = torch.zeros(4, dtype=torch.float64, device=workers.device)  # TrainState.recent, on the device
        self._grad_norm = torch.zeros((), device=workers.device)
        self._ended: Ending | None = None
        self._being_saved: int | None = None

    def run(self, progress: Progress) -> TrainResult:
        """Train to the end. The model of the task then holds the final weights, averaged if so configured."""
        cuda = [self._workers.device] if self._workers.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            self._resume()
            self._model.train()
            meter = Meter(progress, self._config.updates, self._state.update, float(self._sums[2]))
            while not self._finished:
                self._update()
                self._after_update()
                meter.show(self._state.update, self._sums, self._lr, last=self._finished)
                self._log(meter)
            return self._finish()

    @property
    def _finished(self) -> bool:
        return self._ended is not None or self._state.update >= self._config.updates

    @property
    def _lr(self) -> float:
        """The learning rate of the last update."""
        return learning_rate(self._config, max(0, self._state.update - 1))

    def _log(self, meter: Meter) -> None:
        if self._finished or self._state.update % self._config.log_every == 0:
            figures = meter.figures(self._sums, self._lr) | {"grad_norm": float(self._grad_norm)}
            self._log_figures({f"train/{name}": value for name, value in figures.items()})

    def _log_figures(self, figures: Mapping[str, float]) -> None:
        self._sink.log(self._state.update, figures)

    def _newest(self) -> Checkpoint | None:
        """Return the checkpoint that rank 0 found to be the newest whole one, and not what others may see later."""
        found = self._store.latest() if self._workers.rank == 0 else None
        number = torch.tensor([found.update if found else 0], dtype=torch.float64, device=self._workers.device)
        self._workers.all_reduce(number)
        return found if self._workers.rank == 0 or number == 0 else self._store.at(int(number))

    def _resume(self) -> None:
        checkpoint = self._newest()
        if checkpoint is not None:
            self._take_weights(checkpoint.tensors)
            self._adam.restore(checkpoint.tensors)
            self._state = TrainState.from_values(checkpoint.values)
            self._sums.copy_(torch.tensor(self._state.sums, dtype=torch.float64))
            self._recent.copy_(torch.tensor(self._state.recent, dtype=torch.float64))
            self._precision.restore(self._state.loss_scale)
            log.info("resuming %s after update %d", self._store.folder, self._state.update)
        self._require_agreement()
        limit = self._config.max_seconds
        if limit is not None and self._state.seconds >= limit:
            self._ended = "time"
        self._give_up()
        self._began = time.perf_counter() - self._state.seconds

    def _take_weights(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._model.named_parameters():
                parameter.copy_(tensors[MODEL + name])

    def _require_agreement(self) -> None:
        """Raise CheckpointError when the workers do not start from one update: then they do not share the folder."""
        update, count = float(self._state.update), self._workers.world_size
        moments = torch.tensor([update, update**2], dtype=torch.float64, device=self._workers.device)
        self._workers.all_reduce(moments)
        if moments.tolist() != [count * update, count * update**2]:  # a mean and a square that only equals have
            raise CheckpointError(
                f"all workers must see the same checkpoints, but worker {self._workers.rank} found update "
                f"{self._state.update} in {self._store.folder} and others another: use storage that all nodes share"
            )

    def _update(self) -> None:
        """Make one update: gradients of all batches of all workers, their mean over tokens, Adam."""
        state = self._state
        self._rearrange()
        self._adam.forget_gradients()
        batches, state.position = self._batches.update(state.position)
        stats = torch.zeros(3, device=self._workers.device)  # loss, tokens, workers that want to stop
        for number, batch in batches:
            sums = self._backward(batch.to(self._workers.device), number)
            stats[:2] += torch.stack([sums.loss_sum, sums.tokens])
        over = self._over_time()
        stats[2] = over
        gradients = self._adam.gradients()
        sum_over_workers([*self._exchanged(), stats], self._workers)
        torch._foreach_div_(gradients, stats[1].clamp(min=1) * self._precision.scale)
        self._step(gradients)
        self._sums += torch.stack([stats[0], stats[1], stats[1]])  # a list as index would be copied to the device
        self._recent[:2] += stats[:2]
        state.update += 1
        if self._config.max_seconds is not None and (over if self._workers.world_size == 1 else bool(stats[2] > 0)):
            self._ended = "time"

    def _exchanged(self) -> list[Tensor]:
        """The parts of the gradients that workers exchange; nothing for a worker alone."""
        if self._workers.world_size == 1:
            return []
        update, parts = self._state.update, self._task.parts
        return [part for name, gradient in self._adam.named_gradients() for part in parts(update, name, gradient)]

    def _rearrange(self) -> None:
        change = self._task.rearrange(self._state.update)
        if change is not None:
            self._take_weights({MODEL + name: change(name, p) for name, p in self._model.named_parameters()})
            self._adam.rearrange(change)

    def _backward(self, batch: Batch, number: int) -> LossSums:
        """Add the gradients of all passes over a batch; returns the mean of their sums."""
        config, update = self._config, self._state.update
        found: list[LossSums] = []
        teacher, share = self._taught(batch), config.teacher_share if self._task.teacher else config.distillation
        for index, forward in enumerate(self._task.passes(update)):
            _seed_dropout(self._workers.device, stream_seed(self._seed, "dropout", update, number, index))
            with self._precision.autocast():
                output = forward(batch)
                sums = smoothed_loss(
                    *(output, batch.target_out, config.label_smoothing, PAD, teacher, share),
                    tokens=batch.num_tokens,
                    scale=self._precision.scale,
                )
            self._precision.scaled(sums.loss_sum).backward()  # type: ignore[no-untyped-call]
            if index == 0 and config.distillation > 0:
                teacher = output.detach()
            found.append(LossSums(sums.loss_sum.detach(), sums.nll_sum, sums.tokens))
        total = functools.reduce(operator.add, found)
        return LossSums(total.loss_sum / len(found), total.nll_sum / len(found), found[0].tokens)

    def _taught(self, batch: Batch) -> Output | None:
        """Return the output of the teacher that is not trained, where there is one."""
        if self._task.teacher is None:
            return None
        with torch.no_grad(), self._precision.autocast():
            return self._task.teacher(batch)

    def _step(self, gradients: list[Tensor]) -> None:
        norm = nn.utils.get_total_norm(gradients)
        if not self._precision.accept(norm):
            return  # fp16 ran over: the update is left out, and the next one is scaled less
        self._grad_norm = norm
        self._recent[2:] += torch.stack([norm, torch.ones_like(norm)])
        if self._config.clip_norm > 0:
            scale = (self._config.clip_norm / (self._grad_norm + 1e-6)).clamp(max=1)
            torch._foreach_mul_(gradients, scale)
        self._adam.step(learning_rate(self._config, self._state.update))

    def _over_time(self) -> bool:
        limit = self._config.max_seconds
        return limit is not None and time.perf_counter() - self._began >= limit

    def _after_update(self) -> None:
        update, config = self._state.update, self._config
        if update % max(1, config.updates // _POINTS_OF_A_CURVE) == 0 or self._finished:
            self._add_to_curve()
        validate = self._finished or update % config.validate_every == 0
        save = update % config.checkpoint_every == 0 or (validate and config.saves_validations)
        leaving = not self._finished and update % _UPDATES_BETWEEN_LOOKS == 0 and self._workers.leaving()
        if validate or save or leaving or self._finished:
            self._require_finite()
        if validate:
            self._add_point()
            self._give_up()
        if save or leaving or self._finished:
            self._save()
        if leaving and not self._finished:
            self._store.wait()
            wait_for_all(self._workers)  # the checkpoint is written, or left out where its storage failed
            self._report_saved()
            raise NodeLeavesError(f"saved after update {update}: a node will be taken away")

    def _give_up(self) -> None:
        """End the training where its validations have stopped improving; rank 0 decides for all workers."""
        if self._config.stop_after is None or self._ended is not None:
            return
        over = self._workers.rank == 0 and gave_up(self._state.history, self._config, self._best_check)
        agreed = torch.tensor([float(over)], device=self._workers.device)
        self._workers.all_reduce(agreed)
        if agreed > 0:
            self._ended = "no improvement"
            log.info(
                "%s ends after update %d: %d validations brought no better %s",
                *(self._store.folder, self._state.update, self._config.stop_after, self._config.stop_on),
            )

    def _require_finite(self) -> None:
        loss = float(self._sums[0])
        if not math.isfinite(loss):
            raise HatRayError(
                f"the training loss must stay finite, it is {loss} by update {self._state.update}: "
                "lower lr, or set clip_norm, in the recipe's section of this training"
            )

    def _add_to_curve(self) -> None:
        loss, tokens, norm, updates = self._recent.tolist()
        curve, seconds = self._state.curve, time.perf_counter() - self._began
        if curve and curve[-1].update == self._state.update:
            return
        point = CurvePoint(
            update=self._state.update,
            lr=self._lr,
            loss_bits=loss / max(1.0, tokens) / math.log(2),
            grad_norm=norm / max(1.0, updates),
            tokens_per_s=tokens / max(1e-9, seconds - (curve[-1].seconds if curve else 0.0)),
            seconds=seconds,
        )
        curve.append(point)
        self._recent.zero_()

    def _add_point(self) -> None:
        valid = self._validate()
        translators = self._task.translators if self._bleu is not None else {}
        bleu = {name: self._bleu.of(model()) for name, model in translators.items() if self._bleu is not None}
        loss, since, tokens = self._sums.tolist()
        point = TrainPoint(
            update=self._state.update,
            lr=self._lr,
            train_loss_bits=loss / max(1.0, since) / math.log(2),
            valid_loss_bits={name: sums.loss_bits for name, sums in valid.items()},
            valid_nll_bits={name: sums.nll_bits for name, sums in valid.items()},
            tokens=int(tokens),
            seconds=time.perf_counter() - self._began,
            grad_norm=float(self._grad_norm),
            valid_bleu=bleu,
        )
        self._state.history.append(point)
        self._sums[:2] = 0
        valid_figures = {f"valid/loss_bits/{name}": loss for name, loss in point.valid_loss_bits.items()}
        valid_figures |= {f"valid/bleu/{name}": score for name, score in bleu.items()}
        self._log_figures({"train/loss_bits": point.train_loss_bits, **valid_figures})

    def _validate(self) -> dict[str, LossSums]:
        return {name: self._validation.sums(self._model, check) for name, check in self._task.checks.items()}

    def _save(self) -> None:
        state = self._state
        state.seconds = time.perf_counter() - self._began
        state.sums, state.recent = tuple(self._sums.tolist()), tuple(self._recent.tolist())
        state.loss_scale = self._precision.state
        if self._workers.rank == 0:
            weights = {MODEL + name: parameter for name, parameter in self._model.named_parameters()}
            tensors = {**weights, **self._adam.tensors()}
            self._store.save(Checkpoint(state.update, tensors, asdict(state), self._score()))
            self._log_figures({"checkpoint/update": state.update})
        self._report_saved()
        self._being_saved = state.update

    def _report_saved(self) -> None:
        """Report the checkpoint whose writing was begun before: it is whole by now, or left out."""
        if self._being_saved is None:
            return
        figures: dict[str, float] = {"update": self._being_saved, "seconds": self._state.seconds}
        for point in self._state.history[-1:]:
            valid = {f"valid_loss_bits/{name}": loss for name, loss in point.valid_loss_bits.items()}
            figures |= {"train_loss_bits": point.train_loss_bits, **valid}
        self._workers.saved(self._store.place(self._being_saved), figures)

    def _score(self) -> float | None:
        """Return the loss that decides which checkpoint is best, when this update was validated."""
        history = self._state.history
        if self._best_check is None or not history or history[-1].update != self._state.update:
            return None
        return score_of(history[-1], self._config, self._best_check)

    def _finish(self) -> TrainResult:
        state = self._state
        self._store.wait(must_succeed=True)
        wait_for_all(self._workers)  # the last checkpoint is written
        self._report_saved()
        made_of = self._take_final()
        final = self._validate()
        return TrainResult(
            history=tuple(state.history),
            updates=state.update,
            tokens=int(state.sums[2]),
            seconds=state.seconds,
            valid_loss_bits={name: sums.loss_bits for name, sums in final.items()},
            valid_nll_bits={name: sums.nll_bits for name, sums in final.items()},
            curve=tuple(state.curve),
            ended=self._ended or "updates",
            made_of=made_of,
        )

    def _take_final(self) -> tuple[int, ...]:
        """Take the final weights from the checkpoints that the settings name; return their updates."""
        config = self._config
        if config.final == "average" and config.average_last == 1:
            return (self._state.update,)
        mean = self._store.average(config.averaged, MODEL, best=config.final != "average")
        if not mean.updates:  # nothing was validated
            return (self._state.update,)
        log.info("the final model of %s is that of update %s", self._store.folder, ", ".join(map(str, mean.updates)))
        self._take_weights(mean.tensors)
        return mean.updates


def _seed_dropout(device: torch.device, seed: int) -> None:
    """Seed one device's generator; `torch.manual_seed` also queues a call, with a stack trace, for absent GPUs."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
