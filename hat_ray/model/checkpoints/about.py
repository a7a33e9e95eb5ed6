"""The facts that a model folder keeps beside weights and sub-words. Loads no PyTorch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hat_ray.storage.folder import Folder

ABOUT = "about.json"
"""The file of a model folder that is written last."""

_LANGUAGE = re.compile(r"[^\s/\\]{1,64}")


@dataclass(frozen=True)
class About:
    """The facts of a model beside its weights and its sub-words."""

    source_language: str | None = None
    """Code of the language that is translated from; None: not known. Likewise `target_language`."""
    target_language: str | None = None
    tokenizer: str = "13a"
    """sacreBLEU's tokenizer for the target language."""
    signature: str = ""
    """sacreBLEU's signature of the scores that the model was judged by; empty: it was not."""
    search: Mapping[str, float] = field(default_factory=dict)
    """Beam search of the recipe, by the names of `EvaluateConfig`; what is missing is at its default."""
    origin: str = ""
    """How the model was made, in words."""
    notes: tuple[str, ...] = ()
    """What is worth knowing of its making, one line each."""

    def __post_init__(self) -> None:
        for language in (self.source_language, self.target_language):
            if language is not None and not _LANGUAGE.fullmatch(language):
                raise ValueError(f"a language is a code such as en, got {language!r:.80}")

    @property
    def direction(self) -> str | None:
        """Source and target, such as "en-de"; None where either is not known."""
        if self.source_language is None or self.target_language is None:
            return None
        return f"{self.source_language}-{self.target_language}"


def is_model_folder(folder: Folder) -> bool:
    """Report whether a folder looks like a model folder; it may still be damaged."""
    return folder.exists(ABOUT)
