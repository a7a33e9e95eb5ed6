"""The space of these tests: presets may change."""

from hat_ray.space.search_space import SearchSpace

SMALL = SearchSpace(
    name="small-of-tests",
    encoder_embed_dims=(256, 192, 128),
    encoder_depths=(6, 5, 4, 3, 2),
    encoder_ffn_dims=(1024, 512, 256),
    encoder_heads=(4, 2),
    decoder_embed_dims=(256, 192, 128),
    decoder_depths=(4, 3, 2, 1),
    decoder_ffn_dims=(1024, 512, 256),
    decoder_self_heads=(4, 2),
    decoder_cross_heads=(4, 2),
    decoder_cross_layers=(1, 2, 3),
    qkv_dim=256,
)
