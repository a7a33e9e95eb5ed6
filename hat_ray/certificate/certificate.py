"""A certificate: how fast, small and good an export is on one machine, by which rules, and how to repeat it.

It is a JSON file with a seal (`core/codec.py`), in the very bytes that `written` returns: one changed byte is refused.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from hat_ray.core.codec import decode, encode, from_json, to_json
from hat_ray.errors import DamagedError, HatRayError
from hat_ray.evaluate.scoring import TextScore
from hat_ray.latency.device import DeviceInfo
from hat_ray.latency.quantities import MB
from hat_ray.storage.plain_file import open_plain, printable

LEAST_QUERIES, LEAST_SECONDS = 1024, 60.0
"""What MLPerf asks of a single stream."""
LEAST_SHARE = 0.99
"""The share of the fp32 model's quality that MLPerf asks of a quantised one."""
MEMORY_LINES = 100
WHAT_A_SEAL_PROVES = (
    "The seal is a hash and no signature: it shows that nothing changed since the certificate was written, and neither "
    "who wrote it nor that its figures are true, which measuring again does (hat-ray certify verify --repeat)."
)
_MOST_BYTES, _MOST = 1 << 24, 1_000_000
_REMEDY = "take the file that hat-ray certify wrote, or certify the export again"


@dataclass(frozen=True)
class CertificateRules:
    """How the figures were measured."""

    queries: int = LEAST_QUERIES
    """Sentences of the single stream, at least."""
    seconds: float = LEAST_SECONDS
    """Seconds of it, at least."""
    threads: int = 1
    warmup: int = 16
    """Sentences translated before the stream, which do not count."""
    memory_lines: int = MEMORY_LINES
    """Lines that the process translates whose memory is certified; fewer where the text has fewer."""
    split: bool = True
    """Whether lines are split into sentences, as translate.py does."""

    def __post_init__(self) -> None:
        for name, least in (("queries", 1), ("seconds", 0), ("threads", 1)):
            value = getattr(self, name)
            if not least <= value <= _MOST:
                raise HatRayError(f"{name} of a certificate must lie from {least} to {_MOST}, got {value}")

    @property
    def are_mlperf(self) -> bool:
        """Whether the stream is as long as MLPerf asks."""
        return self.queries >= LEAST_QUERIES and self.seconds >= LEAST_SECONDS


@dataclass(frozen=True)
class TestSet:
    """The text that was translated; a hash is that of its lines, each with a line feed."""

    __test__ = False

    sentences: int
    source_file: str
    source_sha256: str
    reference_file: str | None
    reference_sha256: str | None


@dataclass(frozen=True)
class CertifiedFile:
    """One file of the export."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CertifiedExport:
    """The export, as its manifest describes it."""

    place: str
    model_id: str
    direction: str
    runtime: str
    dtype: str
    search: dict[str, float]
    """Its settings of beam search."""
    files: tuple[CertifiedFile, ...]

    @property
    def download_bytes(self) -> int:
        """The bytes of its files: what is downloaded."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Latency:
    """The single stream: one sentence at a time, text to text."""

    queries: int
    seconds: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    edges_ms: tuple[float, ...]
    """Edges of the histogram's bins, ascending; the first and the last are the fastest and the slowest query."""
    counts: tuple[int, ...]
    other_load_cpus: float | None
    """CPUs that other processes kept busy meanwhile, the mean; None where the system does not report it."""


@dataclass(frozen=True)
class Throughput:
    """The whole text, given at once."""

    sentences: int
    seconds: float

    @property
    def sentences_per_second(self) -> float:
        return self.sentences / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class EnergyUse:
    """Energy of one translation of the stream: that of whole processor packages, what they draw idle included."""

    joules: float | None
    source: str
    """The counters; or, where there are no joules, why."""


@dataclass(frozen=True)
class Original:
    """The scores of the fp32 model, and the export's own of the same sentences."""

    known_from: Literal["itself", "an fp32 export", "the export's own parity check", "nothing"]
    sentences: int | None = None
    bleu: float | None = None
    """The fp32 model's; likewise `chrf`."""
    own_bleu: float | None = None
    chrf: float | None = None
    own_chrf: float | None = None
    manifest_sha256: str | None = None
    """Of the fp32 export."""

    @property
    def shares(self) -> dict[str, float]:
        """The export's scores as shares of the fp32 model's; none of a score that is 0 or not known."""
        pairs = {"BLEU": (self.own_bleu, self.bleu), "chrF": (self.own_chrf, self.chrf)}
        return {name: own / whole for name, (own, whole) in pairs.items() if own is not None and whole}

    @property
    def keeps(self) -> bool | None:
        """Whether the export has at least 99 % of each score; None: not known."""
        if self.known_from == "itself":
            return True
        return all(share >= LEAST_SHARE for share in self.shares.values()) if self.shares else None


@dataclass(frozen=True)
class Certificate:
    """All figures of one export on one machine."""

    FORMAT: ClassVar[int] = 1

    created: str
    """UTC, ISO 8601."""
    device: DeviceInfo
    rules: CertificateRules
    text: TestSet
    export: CertifiedExport
    latency: Latency
    throughput: Throughput
    peak_memory_bytes: int
    """The most resident memory of translate.py, which loads, translates the first lines and ends."""
    energy: EnergyUse
    quality: TextScore | None
    """None: no reference was given."""
    translations_sha256: str
    """Of the text's translations, hashed as the text."""
    original: Original
    versions: dict[str, str]
    command: str
    """The command that repeats it."""

    @property
    def figures(self) -> dict[str, tuple[str, float | None]]:
        """Each measured figure by its title, with its unit."""
        quality = self.quality
        return {
            "Latency, median": ("ms", self.latency.p50_ms),
            "Latency, 90th percentile": ("ms", self.latency.p90_ms),
            "Latency, 99th percentile": ("ms", self.latency.p99_ms),
            "Latency, mean": ("ms", self.latency.mean_ms),
            "Throughput of the whole text": ("sentences/s", self.throughput.sentences_per_second),
            "Peak resident memory": ("MB", self.peak_memory_bytes / MB),
            "Download": ("MB", self.export.download_bytes / MB),
            "Energy of a translation": ("J", self.energy.joules),
            "BLEU": ("", None if quality is None else quality.bleu),
            "chrF": ("", None if quality is None else quality.chrf),
        }


def written(certificate: Certificate) -> str:
    """Return the text of a certificate's file."""
    plain = from_json(Certificate, to_json(certificate), "the certificate")
    return json.dumps(encode(plain), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def seal_of(certificate: Certificate) -> str:
    """Return the SHA-256 that a certificate's file ends with."""
    return str(json.loads(written(certificate))["sealed_sha256"])


def read_certificate(path: str) -> Certificate:
    """Read a certificate; raise HatRayError, in one line, for one of which a single byte has changed."""
    with open_plain(path, "certificate", HatRayError) as file:
        content = file.read(_MOST_BYTES + 1)
    name = printable(path, 200)
    if len(content) > _MOST_BYTES:
        raise DamagedError(f"{name} has more than {_MOST_BYTES} bytes and is no certificate: {_REMEDY}")
    found = decode(content, Certificate, name, _REMEDY)
    if content != written(found).encode():
        raise DamagedError(f"{name} is damaged (its bytes are not those that were written): {_REMEDY}")
    return found


def hash_of_lines(lines: Sequence[str]) -> str:
    """Return the SHA-256 of lines, each with a line feed, in UTF-8."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
