"""Errors that a user or a storage can cause. Everything else is a fault of ours and keeps its traceback.

Each message is one line that states the rule, the value that broke it, and the remedy. The command line turns a
`HatRayError` into exit code 2 and a `StorageError` into exit code 1, both without a traceback.

Decisions
- A `StorageError` is no `OSError`: code that takes an `OSError` for a missing or damaged file cannot take a storage
  that does not answer for one.
- Damage is wrong content that was read in full: only that is a `DamagedError`.
"""

from typing import TypeVar

Kind = TypeVar("Kind", bound=Exception)


class HatRayError(Exception):
    """A user's mistake, reported in one line."""


class NotFoundError(HatRayError, FileNotFoundError):
    """A file, folder or bucket that does not exist; the storage answered that it is not there."""


class DamagedError(HatRayError, ValueError):
    """A file that was read in full and whose content is wrong."""


class FormatError(DamagedError):
    """A whole file of a format that this hat-ray does not read: another version wrote it."""


class StorageError(Exception):
    """A storage or machine that failed: no mistake of the user, and no damage. Earlier files are intact."""


class DeniedError(StorageError):
    """A storage that refuses access: credentials that are wrong or expired, or a right that is missing."""


class NoRoomError(StorageError):
    """A place that takes no more bytes: a full disk, a used-up quota, a read-only mount."""


class RecipeError(HatRayError):
    """A recipe that cannot be read, or whose values break a rule."""


class CheckError(HatRayError):
    """A demand of a recipe that cannot be met, found before work began."""


class RunError(HatRayError):
    """A run folder that does not fit the command."""


class PluginError(HatRayError):
    """A plug-in that is not known here, not installed, or cannot be loaded."""


class SpaceError(HatRayError):
    """An architecture or a search space that is not well-formed, or an architecture outside its space."""


class CorpusError(HatRayError):
    """Text or token data that cannot be used."""


class CheckpointError(HatRayError):
    """A checkpoint that is damaged, unsafe, or of another model."""


class ExportError(HatRayError):
    """An exported model that is damaged, or that differs too much from its model."""


class LatencyError(HatRayError):
    """Latency rows that are missing, malformed or from another device."""


class PredictorError(HatRayError):
    """A predictor that cannot be fitted, or that is of another device, space or feature set."""


class SearchError(HatRayError):
    """A search that cannot be done as asked, such as an unreachable limit."""


def in_one_line(text: object, longest: int = 200) -> str:
    """Return an error or a text in one line, cut after this many characters."""
    return " ".join(str(text).split())[:longest]


def user_error(error: BaseException) -> HatRayError | None:
    """Return the user's mistake that an exception is, or that a Ray worker reports through it."""
    return _found(error, HatRayError)


def storage_error(error: BaseException) -> StorageError | None:
    """Return the failure of a storage that an exception is, or that a Ray worker reports through it."""
    return _found(error, StorageError)


def _found(error: BaseException, kind: type[Kind]) -> Kind | None:
    seen: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or any(current is other for other in seen):
            continue
        seen.append(current)
        # Ray raises the worker's exception as a class of both kinds whose text is the whole remote traceback
        if isinstance(current, kind) and not hasattr(current, "cause"):
            return current
        queue += [getattr(current, "cause", None), current.__cause__]
        failures = getattr(current, "worker_failures", None)
        queue += list(failures.values()) if isinstance(failures, dict) else []
    return None
