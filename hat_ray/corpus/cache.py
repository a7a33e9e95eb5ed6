"""A cache folder of this machine: what is expensive to fetch is kept once, however many processes want it.

Decisions
- `$HAT_RAY_CACHE`, or else `~/.cache/hat-ray`.
- A shard of a remote corpus is kept under the hash of its content, checked when it is copied; a file lock lets one
  process copy while its fellows wait, and goes with the process that holds it, however that ends.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hat_ray.corpus.shards import Shard
from hat_ray.errors import CorpusError, HatRayError, NoRoomError
from hat_ray.faults import free_space
from hat_ray.storage import Folder

_BLOCK_BYTES = 1 << 22

log = logging.getLogger(__name__)


def cache_root() -> Path:
    """Return the cache folder, which need not exist."""
    place = os.environ.get("HAT_RAY_CACHE")
    return Path(place).expanduser().absolute() if place else Path.home() / ".cache" / "hat-ray"


def local_shard(folder: Folder, shard: Shard) -> Path:
    """Return a path of this machine that holds a shard: where it lies, or a copy made once."""
    if folder.is_local:
        return Path(folder.path(shard.name))
    place = cache_root() / "shards" / f"{shard.sha256}.arrow"
    try:
        with locked(place):
            if not (place.is_file() and place.stat().st_size == shard.bytes):
                _copy(folder, shard, place)
    except OSError as error:
        if isinstance(error, HatRayError):
            raise
        raise NoRoomError(
            f"{folder}/{shard.name} cannot be copied to {place.parent} ({error.strerror or error}; "
            f"{free_space(str(place))}): make room for {shard.bytes / 1e6:.0f} MB there, or name another cache folder "
            "in HAT_RAY_CACHE"
        ) from error
    return place


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Be the only process at work on a file of the cache; others wait."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(place.with_name(f".{place.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(folder: Folder, shard: Shard, place: Path) -> None:
    """Copy a shard and check it; it appears whole or not at all."""
    log.info("copying %s/%s (%.0f MB) to this machine", folder, shard.name, shard.bytes / 1e6)
    aside, digest = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.tmp"), hashlib.sha256()
    try:
        with folder.reading(shard.name) as source, open(aside, "wb") as target:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                target.write(block)
        if digest.hexdigest() != shard.sha256:
            raise CorpusError(f"{folder}/{shard.name} is damaged (its hash is not the one noted): prepare it again")
        shutil.move(aside, place)
    finally:
        aside.unlink(missing_ok=True)
