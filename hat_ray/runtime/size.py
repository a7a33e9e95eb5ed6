"""Bytes on disk of a stored SubTransformer, in closed form for many architectures at once.

N architectures, L layers at most, E encoder width, D decoder width, Q query-key-value width, V vocabulary.

Decisions
- Weights are counted exactly. Names, shapes and graphs around them are counted as a fixed number of bytes a layer; a
  test holds the sum within 1 % of real files.
- Counted is what differs between architectures: the sub-word model, the loader and the manifest of an exported folder
  are not.
- All weights count as different from one another, as they are after a training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hat_ray.model.config import ModelConfig
from hat_ray.space.architecture import Architecture
from hat_ray.space.dimensions import BY_NAME, CELLS
from hat_ray.space.features import IntArray, ShapedArchitectures, Shapes

BoolArray = npt.NDArray[np.bool_]

_PAD = 1
_ELEMENT = {"fp32": 4, "bf16": 2}
_HEADER, _ENCODER_HEADER, _DECODER_HEADER = 250, 1_190, 2_150  # of safetensors: a model's, a layer's
_SSRU_LESS = 134  # bytes of the header that a layer with an SSRU saves
_ORDER_BYTES = 8


@dataclass(frozen=True)
class StoredModel:
    """What a stored model depends on beside its architecture."""

    config: ModelConfig
    vocab_size: int
    dtype: str
    super_dims: tuple[int, int]
    """Widths of the SuperTransformer's encoder and decoder: positions are cut from its tables."""
    source_vocab_size: int | None = None
    """None: that of the target, `vocab_size`."""

    @property
    def vocab_sizes(self) -> tuple[int, int]:
        """Entries of the source's and the target's vocabulary."""
        return self.source_vocab_size or self.vocab_size, self.vocab_size


class Linear(NamedTuple):
    """One linear layer of each layer of a side: (N, L), sizes of layers that do not exist are not to be counted."""

    part: str
    """`encoder`; `memory`, the keys and values of the encoder's outputs; or `decoder`."""
    outputs: IntArray
    inputs: IntArray
    exists: BoolArray
    biases: IntArray
    """The numbers of its bias; of an SSRU's two matrices, which are counted as one, only the gate has one."""

    def numbers(self) -> IntArray:
        """Count the numbers of all layers, (N,)."""
        return np.asarray(((self.inputs * self.outputs + self.biases) * self.exists).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Sizes:
    """The sizes of N architectures."""

    encoder_dim: IntArray
    decoder_dim: IntArray
    qkv_dim: IntArray
    encoder_ffn: IntArray
    """(N, L), 0 where a layer does not exist; likewise `decoder_ffn`."""
    decoder_ffn: IntArray
    ssru: BoolArray
    """(N, L), whether a decoder layer has an SSRU in the place of self-attention."""

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> "Sizes":
        """Return the sizes of architectures; those of one space have one query-key-value width."""
        shapes = Shapes.of(architectures)
        some = architectures[:1] if isinstance(architectures, ShapedArchitectures) else architectures
        qkv = np.array([one.qkv_dim for one in some], dtype=np.int64)
        return cls(
            shapes["encoder_embed_dims"],
            shapes["decoder_embed_dims"],
            np.broadcast_to(qkv, shapes["encoder_embed_dims"].shape),
            shapes["encoder_ffn_dims"],
            shapes["decoder_ffn_dims"],
            shapes[CELLS] == BY_NAME[CELLS].number("ssru"),
        )

    @property
    def depths(self) -> tuple[IntArray, IntArray]:
        """Layers of the encoder and of the decoder, (N,) each."""
        return (self.encoder_ffn > 0).sum(axis=1), (self.decoder_ffn > 0).sum(axis=1)

    def linears(self) -> Iterator[Linear]:
        """Yield every linear layer."""
        e, d, q = self.encoder_dim[:, None], self.decoder_dim[:, None], self.qkv_dim[:, None]
        in_encoder = (3 * q, e), (e, q), (self.encoder_ffn, e), (e, self.encoder_ffn)
        in_decoder = (q, d), (d, q), (self.decoder_ffn, d), (d, self.decoder_ffn)
        encoder, decoder = self.encoder_ffn > 0, self.decoder_ffn > 0
        for part, exists, pairs in (
            ("encoder", encoder, in_encoder),
            ("memory", decoder, ((q, e), (q, e))),
            ("decoder", decoder & ~self.ssru, ((3 * q, d), (d, q))),
            ("decoder", self.ssru, ((2 * d, d),)),
            ("decoder", decoder, in_decoder),
        ):
            for outputs, inputs in pairs:
                whole = np.broadcast_to(outputs, exists.shape), np.broadcast_to(inputs, exists.shape)
                yield Linear(part, *whole, exists, whole[0] // (2 if exists is self.ssru else 1))

    def norms(self, config: ModelConfig) -> IntArray:
        """Count the numbers of all layer norms, (N,)."""
        encoder, decoder = self.depths
        last = config.final_norms
        return np.asarray(2 * ((2 * encoder + last[0]) * self.encoder_dim + (3 * decoder + last[1]) * self.decoder_dim))


def checkpoint_bytes(architectures: Sequence[Architecture], model: StoredModel) -> IntArray:
    """Return the bytes, (N,), of a model's weights as safetensors."""
    sizes = Sizes.of(architectures)
    count = sizes.norms(model.config)
    for one in sizes.linears():
        count = count + one.numbers()
    (e, d), (s, v) = (sizes.encoder_dim, sizes.decoder_dim), model.vocab_sizes
    tables = {"all": v * np.maximum(e, d), "decoder": s * e + v * d, "none": s * e + 2 * v * d}
    encoder, decoder = sizes.depths
    learned = model.config.positions == "learned"
    order = _ORDER_BYTES * (e + d) if model.config.sharing == "importance" and not learned else 0
    positions = (model.config.max_positions + _PAD + 1) * (e + d) if learned else 0
    bias = v if model.config.output_bias else 0
    header = _HEADER + _ENCODER_HEADER * encoder + _DECODER_HEADER * decoder - _SSRU_LESS * sizes.ssru.sum(axis=1)
    numbers = count + tables[model.config.share_embeddings] + positions + bias
    return np.asarray(_ELEMENT[model.dtype] * numbers + order + header, dtype=np.int64)
