"""Fetch a corpus from the web: each file once, resumed where it broke off, checked, and kept whole or not at all.

Decisions
- A file grows under a `.part` name, with the server's mark of its version beside it; it gets its own name when it has
  the announced length and the right hash. A complete file is not fetched again.
- A hash that is not known in advance is kept beside the file at the first download (`.sha256.json`), with a log line;
  from then on it must hold.
- Of archives the named members alone are unpacked, under these names: no path from inside an archive is ever used.
"""

import hashlib
import logging
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.config import CorpusConfig, Download, FilesConfig
from hat_ray.corpus.shards import cache_root, locked
from hat_ray.corpus.text.transfer import Transfer
from hat_ray.corpus.text.unpack import Bounds, unpack
from hat_ray.errors import CorpusError, HatRayError
from hat_ray.storage.faults import cause, require_no_fault

log = logging.getLogger(__name__)


class _Record(BaseModel):
    """Facts of a downloaded file; size and time spare hashing it at each start."""

    url: str
    sha256: str
    bytes: int
    modified_ns: int


def fetch(config: CorpusConfig, progress: Progress = no_progress) -> None:
    """Download and unpack missing files; do nothing where the text is in a folder of the user's."""
    if config.source != "files" or config.files is None or config.files.folder:
        return
    for number, download in enumerate(config.downloads, 1):
        archive = _archive_path(config, download)
        try:
            with locked(archive):
                fetched = _fetch_one(config, download, archive, progress, f"{number} of {len(config.downloads)}")
                _provide(config, download, archive, fetched)
        except OSError as error:
            if isinstance(error, HatRayError):
                raise
            require_no_fault(error, str(archive))
            raise CorpusError(
                f"cannot keep {download.url} as {archive} ({cause(error)}): name another corpus.downloads_folder"
            ) from error


def text_files(config: CorpusConfig) -> FilesConfig:
    """Return the text files with the folder that they are in: the user's, or that of the downloads."""
    assert config.files is not None, "a corpus of files names them"
    if config.files.folder or not config.downloads:
        return config.files
    return config.files.model_copy(update={"folder": str(text_folder(config))})


def vocabulary_folder(config: CorpusConfig) -> str:
    """Return the folder of relative paths of vocabulary files: that of the text; empty: here."""
    return text_files(config).folder if config.source == "files" else ""


def text_folder(config: CorpusConfig) -> Path:
    """Return the folder of the downloads' text: one for each set of downloads, as unlike sets share names."""
    wanted = repr([(download.url, download.sha256, download.members) for download in config.downloads])
    mark = hashlib.sha256(wanted.encode()).hexdigest()[:8]
    return _downloads_root(config) / "text" / f"{config.source_language}-{config.target_language}-{mark}"


def _downloads_root(config: CorpusConfig) -> Path:
    if config.downloads_folder:
        return Path(config.downloads_folder).expanduser().absolute()
    return cache_root() / "downloads"


def _archive_path(config: CorpusConfig, download: Download) -> Path:
    """Return the place of a kept file: recipes share it, and the same name from elsewhere is another file."""
    parts = urlsplit(download.url)
    folders = [part for part in (parts.netloc.replace(":", "_"), *parts.path.split("/")[:-1]) if part.strip(".")]
    return _downloads_root(config).joinpath("files", *folders, download.name)


def _fetch_one(config: CorpusConfig, download: Download, place: Path, progress: Progress, label: str) -> bool:
    """Make a file be there, whole; return whether it was fetched now."""
    known = _known(download, place)
    if place.is_file():
        if _is_whole(download, place, known):
            return False
        log.warning("%s has changed or is damaged: downloading it again", place)
    log.info("downloading %s: %s", label, download.url)
    transfer = Transfer(
        download.url,
        place,
        config.download_timeout_s,
        config.download_tries,
        max_bytes=round(config.max_download_gb * 1e9),
    )
    fetched = transfer.run(progress)
    digest = _hash(fetched)
    expected = download.sha256 or (known.sha256 if known else "")
    if expected and digest != expected:
        transfer.discard()
        whose = "" if download.sha256 else f" (as at the first download; delete {_record_path(place)} to accept it)"
        raise CorpusError(
            f"{download.url} must have the SHA-256 {expected}{whose}, it has {digest}: it was damaged on its way, or "
            "changed at its source; the file was deleted"
        )
    place.unlink(missing_ok=True)
    fetched.rename(place)
    _write_record(download, place, digest)
    if not expected:
        log.info("no checksum of %s is known; noted for the next time: sha256 %s", download.url, digest)
    return True


def _is_whole(download: Download, place: Path, known: _Record | None) -> bool:
    """Return whether an existing file is the right one; one without a record is the user's own and gets one."""
    status = place.stat()
    if known is not None and (known.bytes, known.modified_ns) == (status.st_size, status.st_mtime_ns):
        return not download.sha256 or known.sha256 == download.sha256
    digest = _hash(place)
    expected = download.sha256 or (known.sha256 if known else digest)
    if digest == expected:
        _write_record(download, place, digest)
    return digest == expected


def _provide(config: CorpusConfig, download: Download, archive: Path, fetched: bool) -> None:
    """Put what the recipe reads into its text folder: an archive's members, or the file itself."""
    folder = text_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    if download.members:
        missing = [name for name in download.members if fetched or not (folder / name).is_file()]
        if missing:
            log.info("unpacking %s", archive.name)
            unpack(archive, missing, folder, Bounds(round(config.max_unpacked_gb * 1e9), config.max_expansion))
    elif fetched or not (folder / download.name).is_file():
        (folder / download.name).unlink(missing_ok=True)
        (folder / download.name).symlink_to(archive)


def _record_path(place: Path) -> Path:
    return place.with_name(f"{place.name}.sha256.json")


def _known(download: Download, place: Path) -> _Record | None:
    try:
        record = _Record.model_validate_json(_record_path(place).read_text())
    except (FileNotFoundError, ValidationError):
        return None
    return record if record.url == download.url else None


def _write_record(download: Download, place: Path, digest: str) -> None:
    status = place.stat()
    record = _Record(url=download.url, sha256=digest, bytes=status.st_size, modified_ns=status.st_mtime_ns)
    aside = place.with_name(f".{place.name}.record.tmp")
    aside.write_text(record.model_dump_json())
    aside.replace(_record_path(place))


def _hash(place: Path) -> str:
    with open(place, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
