"""What a reader makes of a foreign model."""

from dataclasses import dataclass
from typing import Literal

from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.search_space import SearchSpace

NO_VOCABULARY = "no vocabulary stands beside it"

Kind = Literal["fairseq", "hat-ray", "marian", "huggingface"]


@dataclass(frozen=True)
class ForeignModel:
    """A trained model of any kind as a model of hat-ray's, in evaluation mode."""

    model: SuperTransformer | SubTransformer
    kind: Kind
    """The program that wrote it."""
    vocabularies: Vocabularies | None = None
    """Its sub-words; None where they do not stand beside it."""
    notes: tuple[str, ...] = ()
    """What is worth knowing of it, one line each."""
    languages: tuple[str, str] | None = None
    """Source and target, where the model's own settings name them."""

    @property
    def space(self) -> SearchSpace | None:
        """Return the search space of a SuperTransformer; None for a model of one architecture."""
        return self.model.space if isinstance(self.model, SuperTransformer) else None
