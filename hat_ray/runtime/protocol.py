"""What executes a SubTransformer: the protocol of a runtime, its settings, and the registry.

The life of a runtime: its facts are read when a recipe or a command line names it; `unsupported` is asked before
anything is built; `load` puts a model on it, which is then timed or translates.

Decisions
- This file loads no PyTorch, ONNX Runtime or CTranslate2: help and mistakes in a recipe wait for no heavy library.
- Whatever a runtime cannot do is answered by `unsupported`, in one line with rule, value and remedy. It raises nothing.
- A runtime may come from another package: its entry point in the group `hat_ray.runtimes` names an object.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hat_ray.core.registry import Member, Registry
from hat_ray.errors import HatRayError, PluginError
from hat_ray.space.architecture import Architecture
from hat_ray.space.dimension import Choice
from hat_ray.space.dimensions import CELLS

if TYPE_CHECKING:
    from hat_ray.corpus.vocabulary import Vocabularies
    from hat_ray.model.config import ModelConfig
    from hat_ray.model.protocol import Engine
    from hat_ray.model.subtransformer import SubTransformer
    from hat_ray.runtime.shortlist import ShortLists

Isa = tuple[str, ...]
"""Instruction-set flags of a processor, such as ("avx512f", "avx2")."""

PAIRS = "pairs"
"""How int8 is quantised: activations row by row, large weights channel by channel such that two neighbours' products
fit into 16 bits. Another way is another name: "rows" was the same without that, and differed without VNNI."""


@dataclass(frozen=True)
class Expressible:
    """The architectures that a runtime has a place for, as choices of the dimensions of a search space."""

    only: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)
    """The choices that it can express, of dimensions where it cannot express all."""
    alike: tuple[tuple[str, ...], ...] = ()
    """Groups of dimensions that have one value, the same in all layers."""


@dataclass(frozen=True)
class RuntimeFacts:
    """The facts of a runtime that are known before its libraries are imported."""

    dtypes: Mapping[str, str]
    """Quantisation by dtype: a part of the device's id; "none" for floats."""
    accelerators: frozenset[str] = frozenset({"cpu"})
    """PyTorch's kinds of device that it runs on."""
    packages: tuple[str, ...] = ()
    """Python packages that it imports, beside PyTorch."""
    exports: bool = False
    """Whether it writes models as folders."""
    expresses: Expressible = Expressible()
    """What `space.runtime` restricts a search space to."""
    dimensions: frozenset[str] = frozenset()
    """Dimensions beyond HAT's ten whose choices its network reads; an architecture that names another is refused."""
    short_lists: bool = False
    """Whether it can restrict target words to short-lists."""
    model_bytes: str | None = None
    """What computes the bytes, (N,), of its stored models from architectures and a `StoredModel`, as `module:function`
    (such as `hat_ray.runtime.size:checkpoint_bytes`); None: their size is not known."""
    own_process: str | None = None
    """What translates with the files that `Runtime.store` wrote, without PyTorch, as `module:function`; None: a process
    of its own loads a checkpoint, as `load` takes it."""


@dataclass(frozen=True)
class RuntimeSettings:
    """How a runtime executes one model."""

    dtype: str = "fp32"
    device: str = "cpu"
    """PyTorch's name of the device."""
    threads: int = 1
    """Threads of runtimes with a pool of their own (0: one for each core); PyTorch's are the process's."""
    timed: bool = False
    """Whether times matter: a dtype that the device would emulate is then refused."""
    short_lists: "ShortLists | None" = None
    """Target words that may follow, by source word; None: all."""


class Runtime(Protocol):
    """A way to execute models. `runtime.base.BaseRuntime` answers most of it for those that inherit."""

    @property
    def facts(self) -> RuntimeFacts: ...

    @property
    def exporter(self) -> "Exporter | None":
        """What writes models as folders, or None."""

    def unsupported(
        self,
        architecture: Architecture | None,
        settings: RuntimeSettings,
        isa: Isa | None = None,
        config: "ModelConfig | None" = None,
    ) -> str | None:
        """Return the rule that forbids an architecture or settings, and the remedy; None: they can be executed.

        None as `architecture` asks for the settings alone. `isa` holds another machine's flags; None: this machine.
        `config` holds the fixed parts of the network, such as its activation; None: it is not known yet.
        """

    def load(self, model: "SubTransformer", settings: RuntimeSettings) -> "Engine":
        """Return the engine of a model; it may take the model over. Called when `unsupported` returned None."""

    def store(self, model: "SubTransformer", folder: Path, settings: RuntimeSettings) -> None:
        """Write what the program of `facts.own_process` loads; called only where there is one."""

    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that execute a model."""

    def arithmetic(self, dtype: str, isa: Isa | None = None) -> str:
        """Describe the instructions by which a processor multiplies, such as "bytes by AVX-512 VNNI"."""


@dataclass(frozen=True)
class Bounds:
    """Tolerated distance between an exported model and the model itself."""

    min_token_agreement: float | None
    """None: any; int8 chooses other words where two are nearly as good; BLEU judges it."""
    max_bleu_loss: float
    max_logit_error: float | None = None
    """None: any; logits of int8 differ by what quantisation costs."""


class ExportedTranslator(Protocol):
    """An exported model opened by the loader that was exported with it."""

    manifest: dict[str, Any]

    def translate_tokens(self, lines: Sequence[str], *, first: int = 1, **settings: float) -> list[list[int]]:
        """Return the tokens of every line's translation, without its end of sentence; none for an empty line."""


@dataclass(frozen=True)
class OpenedExport:
    """An exported folder, checked and opened."""

    translator: ExportedTranslator
    engine: "Engine"
    """The same model without sub-words."""


@dataclass(frozen=True)
class ExportFacts:
    """What an exporter wrote."""

    manifest: dict[str, Any]
    """Its own entries of the manifest."""
    loader: Path
    """The Python file that opens the folder without hat-ray."""


class Exporter(Protocol):
    """The second half of a runtime: models as folders that need nothing of hat-ray."""

    kind: str
    """The manifest's `kind`."""
    bounds: Mapping[str, Bounds]
    """The usual bounds by dtype."""

    def write(
        self, model: "SubTransformer", vocabularies: "Vocabularies", folder: Path, settings: RuntimeSettings
    ) -> ExportFacts:
        """Write the runtime's own files into an existing folder."""

    def open(self, folder: Path, threads: int = 1) -> OpenedExport:
        """Check and open an exported folder; raise ValueError, in one line, where it is damaged."""

    def difference(
        self, model: "SubTransformer", engine: "Engine", source: Sequence[int], target: Sequence[int]
    ) -> float:
        """Feed both a source and its translation; return the largest difference of their figures."""


def _own(target: str, facts: RuntimeFacts) -> Member[RuntimeFacts]:
    return Member(f"hat_ray.runtime.{target}", facts)


_CHECKPOINT = "hat_ray.runtime.size:checkpoint_bytes"

RUNTIMES: Registry[Runtime, RuntimeFacts] = Registry(
    "runtime",
    "hat_ray.runtimes",
    {
        "eager": _own(
            "eager:EAGER",
            RuntimeFacts(
                {"fp32": "none", "bf16": "none"},
                frozenset({"cpu", "cuda"}),
                dimensions=frozenset({CELLS}),
                model_bytes=_CHECKPOINT,
            ),
        ),
        "packed": _own(
            "packed:PACKED",
            RuntimeFacts({"fp32": "none", "bf16": "none"}, dimensions=frozenset({CELLS}), model_bytes=_CHECKPOINT),
        ),
        "onnx": _own(
            "onnx.runtime:ONNX",
            RuntimeFacts(
                {"fp32": "none", "int8": PAIRS},
                packages=("onnx", "onnxruntime"),
                dimensions=frozenset({CELLS}),
                exports=True,
                short_lists=True,
                model_bytes="hat_ray.runtime.onnx.size:model_bytes",
                own_process="hat_ray.runtime.onnx.own_process:translate",
            ),
        ),
        "ctranslate2": _own(
            "ctranslate2.runtime:CTRANSLATE2",
            RuntimeFacts(
                {"fp32": "none", "int8": PAIRS},
                packages=("ctranslate2",),
                exports=True,
                expresses=Expressible(
                    {"decoder_cross_layers": (1,), CELLS: ("attention",)},
                    (("encoder_heads",), ("decoder_self_heads", "decoder_cross_heads")),
                ),
                model_bytes="hat_ray.runtime.ctranslate2.size:model_bytes",
                own_process="hat_ray.runtime.ctranslate2.own_process:translate",
            ),
        ),
    },
    facts_of=lambda runtime: runtime.facts,
    requires=("facts", "exporter", "unsupported", "load", "versions", "arithmetic"),
)
"""hat-ray's runtimes and those of installed packages."""


def register_runtime(name: str, runtime: Runtime) -> None:
    """Register a runtime for this process alone; a package registers one for all by an entry point."""
    RUNTIMES.add(name, runtime)


def exporting() -> Iterator[str]:
    """Yield the names of the runtimes that export; pass over packages that cannot be imported."""
    for name in RUNTIMES.names:
        try:
            exports = RUNTIMES.facts(name).exports
        except PluginError:
            continue
        if exports:
            yield name


def why_no_dtype(runtime: str, facts: RuntimeFacts, dtype: str) -> str | None:
    """Return why a runtime cannot compute in a dtype, or None when it can."""
    if dtype in facts.dtypes:
        return None
    others = [name for name in RUNTIMES.own_names if dtype in RUNTIMES.facts(name).dtypes]
    other = f", or runtime {' or '.join(others)}" if others else ""
    return f"runtime {runtime} computes in {' or '.join(facts.dtypes)}, got dtype {dtype}: take one of these{other}"


def why_not_on(runtime: str, facts: RuntimeFacts, device: str) -> str | None:
    """Return why a runtime cannot run on a device such as "cuda", or None when it can."""
    if device.partition(":")[0] in facts.accelerators:
        return None
    able = "the CPU" if facts.accelerators == {"cpu"} else " or ".join(sorted(facts.accelerators))
    return f"runtime {runtime} runs on {able}, not on {device}: take runtime eager"


def why_not_installed(runtime: str) -> str | None:
    """Return which packages of a runtime this Python lacks, or None; import nothing."""
    lacking = [name for name in RUNTIMES.facts(runtime).packages if find_spec(name) is None]
    if not lacking:
        return None
    return f"runtime {runtime} needs {' and '.join(lacking)}: pip install {' '.join(lacking)}"


def why_unsupported(
    runtime: str,
    settings: RuntimeSettings,
    architecture: Architecture | None = None,
    isa: Isa | None = None,
    config: "ModelConfig | None" = None,
) -> str | None:
    """Return why a runtime cannot execute an architecture, or anything, with these settings; None: it can.

    `config` holds the fixed parts of the network, where they are known.
    """
    if isa is None and (reason := why_not_installed(runtime)):
        return reason
    return RUNTIMES.load(runtime).unsupported(architecture, settings, isa, config)


def require_runtime(
    runtime: str,
    settings: RuntimeSettings,
    architecture: Architecture | None = None,
    config: "ModelConfig | None" = None,
) -> Runtime:
    """Return a runtime; raise HatRayError where it cannot execute an architecture with these settings here."""
    if reason := why_unsupported(runtime, settings, architecture, config=config):
        raise HatRayError(reason)
    return RUNTIMES.load(runtime)


def load_engine(model: "SubTransformer", runtime: str, settings: RuntimeSettings) -> "Engine":
    """Put a model on a runtime; raise HatRayError where it cannot be."""
    return require_runtime(runtime, settings, model.architecture, model.config).load(model, settings)
