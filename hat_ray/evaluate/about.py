"""The facts that a model folder keeps of its evaluation: made from a recipe's settings, and read back as settings."""

from pydantic import ValidationError

from hat_ray.corpus.corpus import CorpusSummary
from hat_ray.errors import CheckpointError
from hat_ray.evaluate.config import SEARCH, EvaluateConfig
from hat_ray.evaluate.scoring import bleu_signature
from hat_ray.model.checkpoints.about import About


def about_model(corpus: CorpusSummary, config: EvaluateConfig, origin: str) -> About:
    """Return the facts of a model that was trained on a corpus."""
    config = config.for_language(corpus.target_language)
    return About(
        source_language=corpus.source_language or None,
        target_language=corpus.target_language or None,
        tokenizer=config.tokenizer,
        signature=bleu_signature(config.tokenizer),
        search=config.search_settings(),
        origin=origin,
    )


def evaluation_of(about: About, place: object, **changes: object) -> EvaluateConfig:
    """Return the settings that a model's facts stand for, some of them changed; raise CheckpointError."""
    if unknown := sorted(about.search.keys() - set(SEARCH)):
        raise CheckpointError(f"{place}: no setting of beam search is called {unknown[0]!r:.80}: make it again")
    try:
        return EvaluateConfig.model_validate({"tokenizer": about.tokenizer, **about.search, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{place}: {key}: {first['msg']}, got {first['input']!r:.80}: make it again") from error
