"""Errors that a user can cause. Everything else is a fault of ours and keeps its traceback.

Each message is one line that states the rule, the value that broke it, and the remedy. The command line turns a
`HatRayError` into exit code 2 without a traceback.
"""


class HatRayError(Exception):
    """A user's mistake, told in one line."""


class RecipeError(HatRayError):
    """A recipe that cannot be read, or whose values break a rule."""


class CheckError(HatRayError):
    """What a recipe asks for and cannot get, found before work began."""


class RunError(HatRayError):
    """A run folder that does not fit what is asked of it."""


class SpaceError(HatRayError):
    """An architecture or a search space that is not well-formed, or an architecture outside its space."""


class CorpusError(HatRayError):
    """Text or token data that cannot be used."""


class CheckpointError(HatRayError):
    """A checkpoint that is damaged, unsafe, or of another model."""


class ExportError(HatRayError):
    """An exported model that is damaged, or that differs too much from what it was made of."""


class LatencyError(HatRayError):
    """Latency rows that are missing, malformed or from another device."""


class PredictorError(HatRayError):
    """A predictor that cannot be fitted, or that is of another device, space or feature set."""


class SearchError(HatRayError):
    """A search that cannot be done as asked, such as an unreachable limit."""


def user_error(error: BaseException) -> HatRayError | None:
    """Return the user's mistake that an exception is, or that a Ray worker reports through it."""
    seen: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or any(current is other for other in seen):
            continue
        seen.append(current)
        # Ray raises the worker's exception as a class of both kinds whose text is the whole remote traceback
        if isinstance(current, HatRayError) and not hasattr(current, "cause"):
            return current
        queue += [getattr(current, "cause", None), current.__cause__]
        failures = getattr(current, "worker_failures", None)
        queue += list(failures.values()) if isinstance(failures, dict) else []
    return None
