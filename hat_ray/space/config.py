"""Which search space a recipe uses: a preset, a HAT YAML file, or either with some dimensions replaced."""

from dataclasses import replace
from pathlib import Path

from hat_ray.core.config import StageConfig
from hat_ray.errors import SpaceError
from hat_ray.space.hat_yaml import read_space
from hat_ray.space.presets import preset
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.plain_file import read_text

Choices = tuple[int, ...] | None


class SpaceConfig(StageConfig):
    """A search space by name or file; each dimension that is set here replaces that one of the preset."""

    preset: str = "toy"
    """Name of a built-in space: toy, small, space0 (HAT, WMT), space1 (HAT, IWSLT), hat-latency, deep-shallow."""
    file: str | None = None
    """Path of a HAT SuperTransformer YAML whose search-space keys are used instead of a preset."""
    encoder_embed_dims: Choices = None
    """Widths of the encoder."""
    encoder_depths: Choices = None
    """Numbers of encoder layers."""
    encoder_ffn_dims: Choices = None
    """Hidden widths of each encoder layer's feed-forward network."""
    encoder_heads: Choices = None
    """Self-attention heads of each encoder layer."""
    decoder_embed_dims: Choices = None
    """Widths of the decoder."""
    decoder_depths: Choices = None
    """Numbers of decoder layers."""
    decoder_ffn_dims: Choices = None
    """Hidden widths of each decoder layer's feed-forward network."""
    decoder_self_heads: Choices = None
    """Self-attention heads of each decoder layer."""
    decoder_cross_heads: Choices = None
    """Encoder-decoder attention heads of each decoder layer."""
    decoder_cross_layers: Choices = None
    """How many of the last encoder layers (1 to 3) each decoder layer may attend to."""
    qkv_dim: int | None = None
    """Query-key-value width of every attention, the same for all architectures."""

    def build(self) -> SearchSpace:
        """Return the search space; raises SpaceError when a name, file or choice is wrong."""
        base = self._from_file(self.file) if self.file else preset(self.preset)
        changes = {
            name: value
            for name in (*base.dimensions(), "qkv_dim")
            if (value := getattr(self, name)) is not None and value != getattr(base, name)
        }
        return replace(base, name=f"{base.name}-changed", **changes) if changes else base

    @staticmethod
    def _from_file(path: str) -> SearchSpace:
        text = read_text(path, "search space", SpaceError)
        return read_space(text, Path(path).stem, path)
