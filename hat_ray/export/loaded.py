"""A model that is ready to translate text."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.protection.masking import protection_for
from hat_ray.corpus.protection.terms import Terms
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.errors import HatRayError
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.hypotheses import hypotheses, translate_as
from hat_ray.front.front_end import FrontEnd
from hat_ray.model.hypotheses.found import Hypothesis
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.model.hypotheses.lines import Numbers
from hat_ray.model.protocol import Engine
from hat_ray.space.architecture import Architecture


@dataclass(frozen=True)
class LoadedModel:
    """A model on its runtime, with its sub-words and its search settings."""

    engine: Engine
    vocabularies: Vocabularies
    config: EvaluateConfig
    runtime: str
    dtype: str
    source_language: str | None = field(default=None, kw_only=True)
    """Code of the language that is translated from; None: not known. Likewise `target_language`."""
    target_language: str | None = field(default=None, kw_only=True)

    def translate(
        self,
        lines: Sequence[str],
        progress: Progress = no_progress,
        decoding: Decoding | None = None,
        *,
        first: Numbers = 1,
    ) -> list[str]:
        """Return the best translation of every line as a whole, in order; an empty line stays empty.

        `first` are the numbers by which messages name lines.
        """
        wanted = decoding or Decoding()
        return translate_as(self.engine, self.vocabularies, lines, self.config, wanted, progress, first)

    def hypotheses(
        self, lines: Sequence[str], decoding: Decoding, progress: Progress = no_progress, *, first: Numbers = 1
    ) -> list[list[Hypothesis]]:
        """Return the `n_best` hypotheses of every line, the best first; an empty line has one, which is empty."""
        return hypotheses(self.engine, self.vocabularies, lines, self.config, decoding, progress, first)

    def front_end(self, split: bool = True, *, protect: bool = True, terms: Terms | None = None) -> FrontEnd:
        """Return what cuts lines into sentences that the model can read.

        With `protect` URLs, placeholders and the like, and the `terms` of a glossary, come through as they are, where
        the model knows symbols for them. Raises HatRayError for a glossary where it does not.
        """
        source, target = self.vocabularies.source, self.vocabularies.target
        longest = min(self.config.max_source_length, self.engine.max_positions)
        try:
            step = protection_for(source.pieces(), target.pieces(), terms) if protect else None
        except ValueError as error:
            raise HatRayError(str(error)) from error
        return FrontEnd(lambda texts: [len(one) for one in source.encode_lines(texts)], longest, split, step)

    @cached_property
    def usual_front_end(self) -> FrontEnd:
        """The front end of `hat-ray translate` without options, made once."""
        return self.front_end()


@dataclass(frozen=True)
class LoadedExport(LoadedModel):
    """An export that is ready to translate text, with its manifest's facts."""

    architecture: Architecture
