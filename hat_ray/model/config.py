"""Settings common to all architectures of a space: shared embeddings, dropout, place of the norms."""

from typing import Literal

from pydantic import Field

from hat_ray.core.config import StageConfig

Sharing = Literal["front", "middle", "importance"]


class ModelConfig(StageConfig):
    """Settings that the SuperTransformer and every SubTransformer share."""

    share_embeddings: Literal["all", "decoder", "none"] = "all"
    """`all`: one matrix for source, target and output (HAT's WMT models); `decoder`: target and output share one;
    `none`: three matrices (HAT's IWSLT models)."""
    sharing: Sharing = "front"
    """Which channels of a shared weight smaller architectures use: the first ones (`front`, HAT), those in the
    `middle`, or the first ones after all channels were sorted once by the norm of their weights (`importance`)."""
    normalize_before: bool = False
    """Pre-norm layers instead of post-norm; HAT's published models are post-norm."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout at the super width; narrower architectures get proportionally less (HAT)."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of attention probabilities, the same at every width."""
    activation_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout inside the feed-forward network, scaled with the width like `dropout`."""
    max_positions: int = Field(default=1024, ge=8, le=1_000_000)
    """Longest sentence in tokens that positions exist for."""
