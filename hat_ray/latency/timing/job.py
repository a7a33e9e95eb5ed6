"""The order of one device's timings, and the choice of architectures drawn at random."""

import random
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

from hat_ray.errors import LatencyError
from hat_ray.latency.config import DeviceSelector, LatencyConfig
from hat_ray.latency.device import DeviceInfo, names_device
from hat_ray.latency.lookup.covering import covering_spaces
from hat_ray.latency.quantities import LATENCY, DeviceProfile
from hat_ray.latency.table.part_file import KeptParts
from hat_ray.latency.timing.protocol import Protocol
from hat_ray.latency.timing.workload import Workload
from hat_ray.model.config import ModelConfig
from hat_ray.runtime.choice import ModelFacts
from hat_ray.runtime.size import StoredModel, checkpoint_bytes
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder


@dataclass(frozen=True)
class TimingJob:
    """A device's whole order: workload, settings, and the place of its rows. It pickles."""

    space: SearchSpace
    model_config: ModelConfig
    vocab_size: int
    """Entries of the target's vocabulary, which is mostly the source's as well."""
    config: LatencyConfig
    table_root: Folder
    again: bool = False
    """Time also what other sessions have timed (re-measurement of winners); what this session has timed stays."""
    session_id: str = ""
    length_pairs: tuple[tuple[int, int], ...] = ()
    """The (source, target) lengths that `config.length_mix` asks for, drawn from the corpus by `draw_pairs`."""
    bounded: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Quantities that limits bound, by the device's name or id ("": every device); `config.quantities` adds others."""
    source_vocab_size: int | None = None
    """Entries of the source's vocabulary; None: as many as the target's."""
    beyond_space: bool = False
    """Time also architectures outside of the space, such as models that were scaled by hand."""
    kept: KeptParts | None = field(default=None, compare=False, repr=False)
    """The table as this process has read it; None reads the files each time."""

    def __post_init__(self) -> None:
        if self.config.length_mix and not self.length_pairs:
            raise LatencyError("latency.length_mix needs a corpus to draw lengths from: set it to 0 without one")
        if self.source_vocab_size == self.vocab_size:
            object.__setattr__(self, "source_vocab_size", None)
        if not self.session_id:
            object.__setattr__(self, "session_id", new_session_id())

    @property
    def table(self) -> KeptParts | Folder:
        """The table to read from."""
        return self.table_root if self.kept is None else self.kept

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"kept": None}

    def on(self, device: DeviceSelector | None) -> "TimingJob":
        """Return the job with a device's own runtime, dtype and threads."""
        return replace(self, config=self.config.of(device))

    def quantities_of(self, slug: str) -> tuple[str, ...]:
        """Return the quantities beside the latency that each row of a device has to know."""
        keys = sorted((key for key, _ in self.bounded if not key or names_device(key, slug)), key=len)
        bounded = dict(self.bounded)[keys[-1]] if keys else ()
        return tuple(name for name in dict.fromkeys([*self.config.quantities, *bounded]) if name != LATENCY)

    def profile(self, device: DeviceInfo) -> DeviceProfile:
        """Return the facts of a device that quantities depend on, beside the architecture."""
        widest = self.space.largest()
        dims = widest.encoder.embed_dim, widest.decoder.embed_dim
        return DeviceProfile(device, self.model_config, self.vocab_size, dims, self.protocol.workload)

    @property
    def largest(self) -> ModelFacts:
        """The largest model of the space: a runtime that is chosen for the job's devices has to execute it."""
        widest = self.space.largest()
        dims = widest.encoder.embed_dim, widest.decoder.embed_dim
        stored = StoredModel(self.model_config, self.vocab_size, "fp32", dims, self.source_vocab_size)
        return ModelFacts(widest, self.model_config, int(checkpoint_bytes([widest], stored)[0]))

    @cached_property
    def spaces(self) -> tuple[str, ...]:
        """Ids of the spaces whose rows count: the job's own, and where settings say so those that contain it."""
        covering = self.config.rows_of == "covering"
        return self.space.id, *(covering_spaces(self.table, self.space) if covering else ())

    def workload_on(self, slug: str) -> Workload:
        """Return the workload of a device's rows: those of a table's device may have a vocabulary of their own."""
        words = next((one.vocab_size for one in self.config.of_table if one.table == slug), None)
        workload = self.protocol.workload
        return workload if words is None else replace(workload, vocab_size=words, source_vocab_size=None)

    @property
    def protocol(self) -> Protocol:
        config = self.config
        shape = config.batch, config.beam, config.source_length, config.target_length
        protocol = Protocol(
            Workload(*shape, self.vocab_size, source_vocab_size=self.source_vocab_size),
            config.threads,
            config.warmup,
            config.relative_error,
            config.min_repetitions,
            config.max_repetitions,
            config.budget_s,
            config.patience_s,
            config.visits,
        )
        if not self.length_pairs:
            return protocol
        return replace(protocol, workload=protocol.workload.with_mix(self.length_pairs))


def new_session_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def choose_architectures(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Return distinct architectures: the smallest, the largest, then uniform draws; fewer when the space has fewer."""
    chosen = dict.fromkeys([space.smallest(), space.largest()])
    rng = random.Random(seed)
    for _ in range(100 * count):  # a small space runs dry: every draw is then known
        if len(chosen) >= count:
            break
        chosen.setdefault(space.sample(rng))
    return list(chosen)[:count]
