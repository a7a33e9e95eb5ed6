"""Settings common to all architectures of a space: the network's fixed parts, shared embeddings, dropout."""

from typing import ClassVar, Literal

from pydantic import Field

from hat_ray.core.config import StageConfig

Sharing = Literal["front", "middle", "importance"]
Activation = Literal["relu", "gelu", "gelu_tanh", "gelu_sigmoid", "swish"]
PositionKind = Literal["fairseq", "marian", "huggingface", "learned", "none"]


class ModelConfig(StageConfig):
    """Settings that the SuperTransformer and every SubTransformer share."""

    later: ClassVar[frozenset[str]] = frozenset(
        {
            *("activation", "positions", "scale_embeddings", "output_bias", "start", "layer_norm_eps", "unknown_words"),
            *("encoder_final_norm", "decoder_final_norm"),
        }
    )

    share_embeddings: Literal["all", "decoder", "none"] = "all"
    """`all`: one matrix for source, target and output (HAT's WMT models); `decoder`: target and output share one;
    `none`: three matrices (HAT's IWSLT models)."""
    sharing: Sharing = "front"
    """Which channels of a shared weight smaller architectures use: the first ones (`front`, HAT), those in the
    `middle`, or the first ones after all channels were sorted once by the norm of their weights (`importance`)."""
    normalize_before: bool = False
    """Pre-norm layers instead of post-norm; HAT's published models are post-norm."""
    encoder_final_norm: bool = True
    """With pre-norm layers, normalise the output of the last encoder layer once more (HAT, fairseq)."""
    decoder_final_norm: bool = True
    """With pre-norm layers, normalise the output of the last decoder layer; false is fairseq's
    `--no-decoder-final-norm`."""
    layer_norm_eps: float = Field(default=1e-5, gt=0, le=0.1)
    """Number that every layer norm adds to the variance: 1e-5 in fairseq and Hugging Face, 1e-6 in Marian."""
    activation: Activation = "relu"
    """Function between the two layers of a feed-forward network. `gelu_tanh` and `gelu_sigmoid` are approximations of
    `gelu` (fairseq's `gelu_accurate`; x * sigmoid(1.702 x)); `swish` is x * sigmoid(x)."""
    positions: PositionKind = "fairseq"
    """What is added to embeddings to mark positions. Three are sinusoids, sines before cosines: `fairseq` (HAT) counts
    from 2 and its frequencies end at 1/10000, `marian` counts from 0 with the same frequencies, `huggingface` (its
    Marian models) counts from 0 and its frequencies end a step before 1/10000. `learned` positions are weights;
    `none` adds nothing."""
    scale_embeddings: bool = True
    """Multiply embeddings by the square root of the width (HAT: the sampled width)."""
    output_bias: bool = False
    """Add a bias for each target word to the output projection, as Marian's models do."""
    start: Literal["eos", "bos", "zero"] = "eos"
    """First input of the decoder: the embedding of the end of sentence (HAT, fairseq), that of the begin of sentence
    (Hugging Face's Marian models), or a `zero` vector (Marian)."""
    unknown_words: bool = True
    """Whether the unknown word may stand in a translation. Without it the search passes over it, as Marian's does; the
    probabilities of all other words stay as they are."""

    @property
    def final_norms(self) -> tuple[int, int]:
        """Number of norms after the last layer of the encoder and of the decoder: 0 or 1 each."""
        return int(self.normalize_before and self.encoder_final_norm), int(
            self.normalize_before and self.decoder_final_norm
        )

    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout at the super width; narrower architectures get proportionally less (HAT)."""
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of attention probabilities, the same at every width."""
    activation_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout inside the feed-forward network, scaled with the width like `dropout`."""
    max_positions: int = Field(default=1024, ge=8, le=1_000_000)
    """Longest sentence in tokens that positions exist for."""
