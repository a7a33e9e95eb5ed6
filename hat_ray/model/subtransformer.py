"""A SubTransformer: one architecture as a stand-alone model with its own contiguous weights."""

import torch
from torch import Tensor

from hat_ray.model import decoding
from hat_ray.model.config import ModelConfig
from hat_ray.model.decoding import DecoderState
from hat_ray.model.protocol import TopTokens, top_tokens
from hat_ray.model.transformer import ElasticTransformer, Output
from hat_ray.space.architecture import Architecture


class SubTransformer(ElasticTransformer):
    """A model of exactly one architecture, as it is retrained, timed and served.

    Differs from HAT: HAT times and retrains slices inside the SuperTransformer; this model has nothing else inside.
    """

    def __init__(
        self,
        architecture: Architecture,
        vocab_size: int,
        config: ModelConfig,
        *,
        super_dims: tuple[int, int] | None = None,
        target_vocab_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            architecture,
            vocab_size,
            config,
            super_dims=super_dims,
            target_vocab_size=target_vocab_size,
            seed=seed,
        )
        self.architecture = architecture

    @property
    def max_positions(self) -> int:
        """Longest sentence in tokens."""
        return self.config.max_positions

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """(B, S), (B, T) -> logits (B, T, V), teacher-forced."""
        return self.output(source, target_in).logits()

    def output(self, source: Tensor, target_in: Tensor, padded: bool | None = None) -> Output:
        """(B, S), (B, T) -> what a loss is computed from, teacher-forced; `padded` as in `Encoder.forward`."""
        return self.run(source, target_in, self.architecture, padded)

    def start(self, source: Tensor, beam: int) -> DecoderState:
        """Encode (N, S) for decoding with N * beam rows; run it under `torch.inference_mode()`."""
        return decoding.start(self, self.architecture, source, beam)

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Feed one token a row, (N * beam,) -> logits (N * beam, V)."""
        return decoding.step(self, self.architecture, tokens, state)

    def watch(self, state: DecoderState) -> None:
        """Keep the attention of each step from now on."""
        state.watched = True

    def attention(self, state: DecoderState) -> Tensor:
        """Return the shares (R, S) of the source's tokens in the last layer's attention of the last step."""
        assert state.attention is not None
        return decoding.folded(state.attention, self.architecture.decoder.cross_layers[-1])

    def best(self, tokens: Tensor, state: DecoderState, count: int) -> TopTokens:
        """Feed one token a row, (N * beam,) -> the `count` best words to follow each."""
        return top_tokens(self.step(tokens, state), count, self.config.unknown_words)
