"""COMET once more, by the encoder of another library: Hugging Face's XLM-RoBERTa with the weights of Marian's file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import yaml
from transformers import XLMRobertaConfig, XLMRobertaModel

_START, _END = 0, 2


class PlainComet:
    """A model of a folder; sentence by sentence, without any padding."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "model.npz") as arrays:
            self.arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        self.settings = yaml.safe_load(self.arrays.pop("special:model.yml").numpy().tobytes().rstrip(b"\0"))
        self.words = sentencepiece.SentencePieceProcessor(model_file=str(folder / "vocab.spm"))
        self.encoder = self._encoder()

    @torch.inference_mode()
    def score(self, source: str, hypothesis: str, reference: str) -> float:
        """Return the score of a sentence; a model of type comet-qe does not read the reference."""
        src, mt, ref = (self._pooled(text) for text in (source, hypothesis, reference))
        if self.settings["type"] == "comet":
            features = torch.cat([mt, ref, mt * ref, (mt - ref).abs(), mt * src, (mt - src).abs()])
        else:
            features = torch.cat([mt, src, mt * src, (mt - src).abs()])
        for place in (0, 3, 6):
            name = f"CometQEPooler->layers->at({place})->as<marian::nn::Linear>()"
            features = features @ self.arrays[f"{name}->weight"] + self.arrays[f"{name}->bias"]
            features = features if place == 6 else features.tanh()
        return float(features)

    def _pooled(self, text: str) -> torch.Tensor:
        tokens = [_START, *self.words.encode(text)[: self.settings["max-length"] - 2], _END]
        embedded = self.arrays["Wemb"][tokens][None]  # by itself: the ids of padding are others in that library
        states = self.encoder(inputs_embeds=embedded, output_hidden_states=True).hidden_states
        weights = self.arrays["CometEncoder->encoder->weights"].softmax(0)
        mixed = sum(weight * state[0].mean(0) for weight, state in zip(weights, states, strict=True))
        return self.arrays["CometEncoder->encoder->gamma"] * mixed

    def _encoder(self) -> XLMRobertaModel:
        settings, prefix = self.settings, "CometEncoder->encoder->"
        config = XLMRobertaConfig(
            vocab_size=8,
            hidden_size=settings["dim-emb"],
            num_hidden_layers=settings["enc-depth"],
            num_attention_heads=settings["transformer-heads"],
            intermediate_size=settings["transformer-dim-ffn"],
            max_position_embeddings=settings["max-length"] + 2,
            type_vocab_size=1,
        )
        model = XLMRobertaModel(config, add_pooling_layer=False).eval()
        names = {
            "embeddings.LayerNorm": "preprocessor->norm",
            **{
                f"encoder.layer.{number}.{theirs}": f"{_BLOCK.format(number)}->{own}"
                for number in range(settings["enc-depth"])
                for theirs, own in _LAYER.items()
            },
        }
        with torch.no_grad():
            state = model.state_dict()
            for theirs, own in names.items():
                weight, bias = (self.arrays[f"{prefix}{own}->{part}"] for part in ("weight", "bias"))
                state[f"{theirs}.weight"].copy_(weight.T if weight.dim() == 2 else weight)
                state[f"{theirs}.bias"].copy_(bias)
            state["embeddings.position_embeddings.weight"][2:] = self.arrays[f"{prefix}positionEmbedding->embeddings"]
            state["embeddings.token_type_embeddings.weight"].zero_()
        return model


_BLOCK = "layers->at({})->as<marian::nn::TransformerEncoderLayer>()"
_FILTER = "filterBlock->layers->at({})->as<marian::nn::Linear>()"
_LAYER = {
    "attention.self.query": "selfAttentionBlock->selfAttention->qProj",
    "attention.self.key": "selfAttentionBlock->selfAttention->kProj",
    "attention.self.value": "selfAttentionBlock->selfAttention->vProj",
    "attention.output.dense": "selfAttentionBlock->selfAttention->oProj",
    "attention.output.LayerNorm": "selfAttentionBlock->postprocessor->norm",
    "intermediate.dense": _FILTER.format(0),
    "output.dense": _FILTER.format(3),
    "output.LayerNorm": "filterBlock->postprocessor->norm",
}


def plain_scores(folder: Path, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]):
    """Return the score of each sentence."""
    model = PlainComet(folder)
    return [model.score(*row) for row in zip(sources, hypotheses, references, strict=True)]
