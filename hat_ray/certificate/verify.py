"""Whether a certificate holds: its seal, and the files of the export that it certifies. Nothing is measured here."""

import hashlib
from pathlib import Path

from hat_ray.certificate.certificate import Certificate, CertifiedFile, read_certificate
from hat_ray.errors import ExportError
from hat_ray.storage.copies import copied_here
from hat_ray.storage.plain_file import open_plain


def verify_certificate(certificate: str | Path, export: str | Path | None = None) -> Certificate:
    """Return a certificate whose seal holds; with an export, one whose files have the certified hashes.

    Raises HatRayError, in one line, where a byte of either has changed. What a seal proves, and what it does not:
    `hat-ray certify verify --help`.

    >>> import hat_ray
    >>> hat_ray.verify_certificate("mine.yml")
    Traceback (most recent call last):
    hat_ray.errors.DamagedError: mine.yml is damaged (it is no JSON: ...): take the file that hat-ray certify wrote, ...
    """
    found = read_certificate(str(certificate))
    if export is not None:
        with copied_here(str(export)) as place:
            for file in found.export.files:
                if file_at(place, file.name) != file:
                    raise ExportError(
                        f"{export} is not the export that {certificate} certifies: {file.name} has another SHA-256: "
                        "take the certified files, or certify this export"
                    )
    return found


def file_at(place: Path, name: str) -> CertifiedFile:
    """Describe a plain file of the export's folder itself."""
    if Path(name).name != name:
        raise ExportError(f"a certified file has a plain name, got {name!r:.100}: certify the export again")
    with open_plain(place / name, "exported file", ExportError) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return CertifiedFile(name, file.tell(), sha256)
