"""Whether sacreBLEU's tokenizers work on this machine: their packages, and the file that flores200 needs."""

from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
from sacrebleu.utils import SACREBLEU_DIR

from hat_ray.errors import HatRayError, in_one_line
from hat_ray.evaluate.tokenizers import NEEDS, Tokenizer, tokenizer_of


def flores_file() -> tuple[str, Path]:
    """Return where the file of flores200 comes from, and where sacreBLEU looks for it."""
    url = str(SPM_MODELS["flores200"]["url"])
    return url, Path(SACREBLEU_DIR, "models", Path(url).name)


def has_flores_file() -> bool:
    """Report whether the file of flores200 is here, and this process may see it."""
    _, place = flores_file()
    try:
        return place.is_file() and place.stat().st_size > 0
    except OSError:
        return False


def require_tokenizer(name: str, language: str | None) -> str:
    """Return the tokenizer of a name and language; raise HatRayError where there is none, or it does not work here."""
    if name not in get_args(Tokenizer):
        raise HatRayError(f"the tokenizer must be one of {', '.join(get_args(Tokenizer))}, got {in_one_line(name)!r}")
    found = tokenizer_of(name, language)
    if (reason := why_not_here(found)) is not None:
        raise HatRayError(f"the tokenizer {reason}; or name another tokenizer")
    return found


def why_not_here(tokenizer: str) -> str | None:
    """Return what a tokenizer lacks here, and the remedy; None: nothing. Nothing is downloaded."""
    names, how = NEEDS.get(tokenizer, ((), ""))
    if lacking := [name for name in names if find_spec(name) is None]:
        return f"{tokenizer} lacks {' and '.join(lacking)}: pip install '{how}'"
    if tokenizer == "flores200" and not has_flores_file():
        url, place = flores_file()
        return f"{tokenizer} lacks its file, which the first use downloads: without a network put {url} as {place}"
    return None
