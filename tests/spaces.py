"""A search space of the tests' own, which stays as it is when a preset changes."""

from hat_ray.space.search_space import SearchSpace

THREE_LAYERS = SearchSpace(
    name="three-layers",
    encoder_embed_dims=(128, 64),
    encoder_depths=(3, 2, 1),
    encoder_ffn_dims=(256, 128, 64),
    encoder_heads=(4, 2),
    decoder_embed_dims=(128, 64),
    decoder_depths=(3, 2, 1),
    decoder_ffn_dims=(256, 128, 64),
    decoder_self_heads=(4, 2),
    decoder_cross_heads=(4, 2),
    decoder_cross_layers=(1, 2, 3),
    qkv_dim=128,
)
"""What the preset toy was at first; tables that ship with the project were timed in it."""
