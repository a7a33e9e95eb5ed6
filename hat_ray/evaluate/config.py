"""Settings of evaluation: how a test set is translated and scored."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from hat_ray.core.config import StageConfig
from hat_ray.evaluate.tokenizers import AUTO, Tokenizer, tokenizer_of

SEARCH = ("beam", "length_penalty", "max_length_factor", "max_length_extra", "max_source_length", "batch_tokens")
"""Fields of `EvaluateConfig` that a model takes with it, as the defaults of its beam search."""


class EvaluateConfig(StageConfig):
    """Translation of the test set (beam search) and scoring (sacreBLEU)."""

    execution_only: ClassVar[frozenset[str]] = frozenset({"batch_tokens", "use_gpu"})
    later: ClassVar[frozenset[str]] = frozenset({"metric", "more_metrics", "comet_model"})

    beam: int = Field(default=5, ge=1, le=1_000)
    """Hypotheses kept for each sentence; 1 is greedy."""

    length_penalty: float = Field(default=1.0, ge=0)
    """Exponent of the length by which a hypothesis's log-probability is divided; HAT: 1 for IWSLT, 0.6 for WMT."""

    max_length_factor: float = Field(default=1.2, ge=0)
    """Longest hypothesis in tokens = `max_length_factor` * its source's tokens + `max_length_extra`."""

    max_length_extra: int = Field(default=10, ge=1, le=100_000)
    """Tokens added to the longest hypothesis allowed, whatever the source's length."""

    max_source_length: int = Field(default=256, ge=2, le=100_000)
    """Sources are cut to this many tokens, end of sentence included; a warning counts them and names the first."""

    batch_tokens: int = Field(default=2048, ge=1, le=100_000_000)
    """Source tokens, padding included, translated at once; memory grows with `beam` times this."""

    use_gpu: bool = False
    """Translate on a GPU, with PyTorch; false: on CPUs, with the fastest runtime."""

    chrf: bool = True
    """Also compute chrF, which agrees better with human judgement where words inflect."""

    metric: Literal["sacrebleu", "multi-bleu"] = "sacrebleu"
    """`multi-bleu` reports, beside sacreBLEU and as a figure of its own, the BLEU of HAT's papers: on Moses' tokens of
    the target language, words with dashes cut. It needs hat-ray[vocabularies]."""

    more_metrics: tuple[Literal["chrf++", "ter", "comet"], ...] = ()
    """Further metrics to compute, such as [chrf++, ter]; each is reported with its signature. comet needs
    hat-ray[comet] and `comet_model`."""

    comet_model: str | None = None
    """Local folder of COMET's model in Marian's form, such as unbabel/wmt22-comet-da-marian's: one file of weights, and
    vocab.spm or sentencepiece.bpe.model. hat-ray fetches none."""

    tokenizer: Tokenizer = AUTO
    """sacreBLEU's tokenizer. auto: by the target language ja-mecab, zh or ko-mecab, else 13a. ja-mecab needs
    hat-ray[ja], ko-mecab hat-ray[ko], flores200 a file that sacreBLEU downloads."""

    sentences: int | None = Field(default=None, ge=1)
    """Evaluate only this many first sentences of the test set; null for all. Such scores do not compare with others."""

    floor_pairs: int = Field(default=200_000, ge=0, le=1_000_000_000)
    """Training pairs searched for the nearest source (a floor that any useful model beats); 0 leaves floors out."""

    @model_validator(mode="after")
    def _comet_has_a_model(self) -> "EvaluateConfig":
        if ("comet" in self.more_metrics) != (self.comet_model is not None):
            raise ValueError("comet of more_metrics and comet_model go together: set both, or neither")
        return self

    def for_language(self, language: str | None) -> "EvaluateConfig":
        """Return the settings with the tokenizer of a target language in the place of `auto`."""
        found = tokenizer_of(self.tokenizer, language)
        return self if found == self.tokenizer else self.model_copy(update={"tokenizer": found})

    def search_settings(self) -> dict[str, float]:
        """Return the settings of beam search."""
        return {name: getattr(self, name) for name in SEARCH}
