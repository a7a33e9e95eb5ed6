"""Certify an export: measure it, and write the certificate and its page. And verify a certificate.

Decisions
- Nothing of a certificate is written before all is measured: a certification that was killed is begun again, and what
  it made aside is deleted (`storage/temporary.py`). The page comes first, then the certificate, each whole or not.
- What is certified of the export are the files that its manifest names, and the manifest. What else lies in its folder
  is no part of it.
"""

import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sacrebleu

import hat_ray
from hat_ray.certificate.certificate import (
    Certificate,
    CertificateRules,
    CertifiedExport,
    Original,
    TestSet,
    Throughput,
    hash_of_lines,
    written,
)
from hat_ray.certificate.measure import Translated, peak_bytes, stream, translate_once
from hat_ray.certificate.page import page
from hat_ray.certificate.verify import file_at
from hat_ray.core.progress import Progress, no_progress
from hat_ray.errors import ExportError, HatRayError
from hat_ray.evaluate.scoring import TextScore, score_text
from hat_ray.export.place import is_export
from hat_ray.latency.detection import detect
from hat_ray.runtime.standalone.translate import MANIFEST
from hat_ray.storage import packed_text
from hat_ray.storage.copies import copied_here, name_of
from hat_ray.storage.folder import Folder

_SUFFIX = ".json"
_STEPS = 4


@dataclass(frozen=True)
class Text:
    """The sentences that a certification translates, and their reference translations."""

    source_file: str
    sources: Sequence[str]
    reference_file: str | None = None
    references: Sequence[str] | None = None

    @classmethod
    def read(cls, source: str | Path, reference: str | Path | None = None) -> "Text":
        """Read the files, which may be compressed; raise HatRayError where they do not belong together."""
        sources = packed_text.read_lines(source, "--source: text", HatRayError)
        if reference is None:
            return cls(str(source), sources)
        references = packed_text.read_lines(reference, "--reference: text", HatRayError)
        if len(references) != len(sources):
            raise HatRayError(
                f"--source and --reference must have equally many lines, got {len(sources)} and {len(references)}: "
                "give each sentence one line"
            )
        return cls(str(source), sources, str(reference), references)

    @property
    def full_lines(self) -> list[str]:
        """The lines that are not blank; raise HatRayError where there is none."""
        if not (found := [line for line in self.sources if line.strip()]):
            raise HatRayError(f"--source must hold a sentence, got {self.source_file}, whose lines are blank")
        return found

    @property
    def test_set(self) -> TestSet:
        hashed = None if self.references is None else hash_of_lines(self.references)
        return TestSet(len(self.sources), self.source_file, hash_of_lines(self.sources), self.reference_file, hashed)


def certify(
    export: str | Path,
    source: str | Path,
    reference: str | Path | None = None,
    *,
    out: str | Path | None = None,
    against: str | Path | None = None,
    rules: CertificateRules | None = None,
    progress: Progress = no_progress,
) -> Certificate:
    """Measure an export on this machine, and write its certificate and its page.

    `source` is the text of one sentence a line, `reference` its translations: without it quality is not certified.
    `out` is the certificate's file, a path or URI that ends in `.json` (default: the export's name and
    `.certificate.json` in this folder); the page stands beside it. `against` is the fp32 export of the same model,
    whose quality is compared. `rules` says how long is measured. The export's own translate.py is executed. Raises
    HatRayError, and writes nothing, where it cannot be certified.

    >>> import hat_ray
    >>> short = hat_ray.CertificateRules(queries=4, seconds=0)
    >>> made = hat_ray.certify("exported", "mine.yml", rules=short)
    >>> made.latency.queries >= 4, made.quality is None, made.export.dtype
    (True, True, 'fp32')
    >>> hat_ray.verify_certificate("exported.certificate.json", "exported") == made
    True
    """
    text, rules = Text.read(source, reference), rules or CertificateRules()
    folder, name = _target(certificate_place(str(export), None if out is None else str(out)))
    made = measured(str(export), text, rules, None if against is None else str(against), progress)
    folder.write_text(page_name(name), page(made))
    folder.write_text(name, written(made))
    return made


def certificate_place(export: str, out: str | None) -> str:
    """Return where the certificate of an export is written: `out`, or a file of this folder with the export's name."""
    return f"{name_of(export)}.certificate{_SUFFIX}" if out is None else out


def page_name(place: str) -> str:
    """Return the place of the page beside a certificate."""
    return f"{place.removesuffix(_SUFFIX)}.html"


def measured(
    export: str, text: Text, rules: CertificateRules, against: str | None = None, progress: Progress = no_progress
) -> Certificate:
    """Measure an export and return its certificate, which is not written."""
    _require_export(export)
    if against is not None:
        _require_export(against)
        if text.references is None:
            raise HatRayError("--against compares scores: name the sentences' translations with --reference")
    full = text.full_lines
    with copied_here(export) as place, copied_here(against) if against is not None else nullcontext() as other:
        memory = peak_bytes(place, full[: rules.memory_lines], rules)
        progress(1, _STEPS, {})
        whole = translate_once(place, text.sources, rules)
        quality = _score(whole, text)
        runtime, dtype = (str(whole.manifest[name]) for name in ("runtime", "dtype"))
        device = detect(threads=rules.threads, accelerator="cpu", runtime=runtime, dtype=dtype)
        progress(2, _STEPS, {})
        original = _original(whole, quality, text, rules, other)
        progress(3, _STEPS, {})
        latency, energy = stream(place, full, rules)
        progress(_STEPS, _STEPS, {})
        return Certificate(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            device=device,
            rules=rules,
            text=text.test_set,
            export=_certified(export, place, whole),
            latency=latency,
            throughput=Throughput(len(text.sources), whole.seconds),
            peak_memory_bytes=memory,
            energy=energy,
            quality=quality,
            translations_sha256=hash_of_lines(whole.translations),
            original=original,
            versions={"hat-ray": hat_ray.__version__, **whole.versions, "sacrebleu": sacrebleu.__version__},
            command=_command(export, text, rules, against),
        )


def repeated(
    certificate: Certificate,
    export: str,
    source: str | None = None,
    reference: str | None = None,
    progress: Progress = no_progress,
) -> Certificate:
    """Measure a certified export again by the same rules; raise HatRayError where the text is another one."""
    old = certificate.text
    text = Text.read(source or old.source_file, reference or old.reference_file)
    new = text.test_set
    for option, before, now in (
        ("--source", old.source_sha256, new.source_sha256),
        ("--reference", old.reference_sha256, new.reference_sha256),
    ):
        if before != now:
            raise HatRayError(f"{option} must be the certified text (SHA-256 {str(before)[:12]}), got {str(now)[:12]}")
    return measured(export, text, certificate.rules, progress=progress)


def _require_export(place: str) -> None:
    if not is_export(place):
        raise ExportError(f"{place} is no exported model: name a folder that `hat-ray export` made")


def _target(out: str) -> tuple[Folder, str]:
    """Split the certificate's place into its folder and its file."""
    folder, name = Folder.of_file(out)
    if not name.endswith(_SUFFIX) or name == _SUFFIX:
        raise HatRayError(f"--out must name a file that ends in {_SUFFIX}, got {out}")
    return folder, name


def _certified(export: str, place: Path, found: Translated) -> CertifiedExport:
    manifest = found.manifest
    files = tuple(file_at(place, name) for name in (MANIFEST, *sorted(manifest["files"])))
    if any(file.sha256 != manifest["files"][file.name] for file in files[1:]):
        raise ExportError(f"{export} changed while it was measured: certify it again")
    return CertifiedExport(
        place=export,
        model_id=str(manifest["model_id"]),
        direction=str(manifest.get("direction") or ""),
        runtime=str(manifest["runtime"]),
        dtype=str(manifest["dtype"]),
        search={name: float(value) for name, value in manifest["search"].items()},
        files=files,
    )


def _score(found: Translated, text: Text) -> TextScore | None:
    """Score translations as the export's manifest names the tokenizer; None without references."""
    if text.references is None:
        return None
    return score_text(found.translations, [text.references], tokenizer=str(found.manifest.get("tokenizer", "13a")))


def _original(
    own: Translated, quality: TextScore | None, text: Text, rules: CertificateRules, against: Path | None
) -> Original:
    """Compare with the fp32 model: with its export, or by the parity check that the export carries."""
    if against is not None:
        assert quality is not None, "without references it is refused"
        other = translate_once(against, text.sources, rules)
        if other.manifest["dtype"] != "fp32" or other.manifest["model_id"] != own.manifest["model_id"]:
            raise ExportError(
                f"--against must be the fp32 export of model {own.manifest['model_id']}, got {other.manifest['dtype']} "
                f"of {other.manifest['model_id']}"
            )
        score = _score(other, text)
        assert score is not None, "there are references"
        hashed = file_at(against, MANIFEST).sha256
        return Original("an fp32 export", len(text.sources), score.bleu, quality.bleu, score.chrf, quality.chrf, hashed)
    if own.manifest["dtype"] == "fp32":
        return Original("itself")
    parity = own.manifest.get("parity", {})
    if parity.get("bleu") is None or parity.get("exported_bleu") is None:
        return Original("nothing")
    return Original(
        "the export's own parity check",
        int(parity["sentences"]),
        float(parity["bleu"]),
        float(parity["exported_bleu"]),
    )


def _command(export: str, text: Text, rules: CertificateRules, against: str | None) -> str:
    """Return the command that repeats a certification."""
    words = ["hat-ray", "certify", export, "--source", text.source_file]
    words += ["--reference", text.reference_file] if text.reference_file else []
    words += ["--against", against] if against else []
    usual = CertificateRules()
    for option, value, default in (
        ("--queries", rules.queries, usual.queries),
        ("--seconds", f"{rules.seconds:g}", f"{usual.seconds:g}"),
        ("--threads", rules.threads, usual.threads),
    ):
        words += [] if value == default else [option, str(value)]
    return shlex.join(words if rules.split else [*words, "--no-split"])
