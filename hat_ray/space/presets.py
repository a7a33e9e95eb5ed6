"""Named search spaces: HAT's own, exact, and hat-ray's."""

from hat_ray.core.config import nearest_name
from hat_ray.errors import SpaceError
from hat_ray.space.search_space import SearchSpace

SPACE0 = SearchSpace(
    name="space0",  # HAT: WMT'14 En-De, En-Fr, WMT'19 En-De (section 4.1)
    encoder_embed_dims=(640, 512),
    encoder_depths=(6,),
    encoder_ffn_dims=(3072, 2048, 1024),
    encoder_heads=(8, 4),
    decoder_embed_dims=(640, 512),
    decoder_depths=(6, 5, 4, 3, 2, 1),
    decoder_ffn_dims=(3072, 2048, 1024),
    decoder_self_heads=(8, 4),
    decoder_cross_heads=(8, 4),
    decoder_cross_layers=(1, 2, 3),
)

SPACE1 = SearchSpace(
    name="space1",  # HAT: IWSLT'14 De-En
    encoder_embed_dims=(640, 512),
    encoder_depths=(6,),
    encoder_ffn_dims=(2048, 1024, 512),
    encoder_heads=(4, 2),
    decoder_embed_dims=(640, 512),
    decoder_depths=(6, 5, 4, 3, 2, 1),
    decoder_ffn_dims=(2048, 1024, 512),
    decoder_self_heads=(4, 2),
    decoder_cross_heads=(4, 2),
    decoder_cross_layers=(1, 2, 3),
)

HAT_LATENCY = SearchSpace(
    name="hat-latency",  # HAT: the wider space that its latency tables are sampled from, for every task and device
    encoder_embed_dims=(640, 512),
    encoder_depths=(6,),
    encoder_ffn_dims=(3072, 2048, 1024, 512),
    encoder_heads=(8, 4, 2),
    decoder_embed_dims=(640, 512),
    decoder_depths=(6, 5, 4, 3, 2, 1),
    decoder_ffn_dims=(3072, 2048, 1024, 512),
    decoder_self_heads=(8, 4, 2),
    decoder_cross_heads=(8, 4, 2),
    decoder_cross_layers=(1, 2, 3),
)

TOY = SearchSpace(
    name="toy",  # small enough for two cores; at equal latency shapes decide the loss
    encoder_embed_dims=(128, 96, 64, 48),
    encoder_depths=(6, 5, 4, 3, 2, 1),
    encoder_ffn_dims=(256, 128, 64),
    encoder_heads=(4, 2, 1),
    decoder_embed_dims=(128, 96, 64, 48),
    decoder_depths=(4, 3, 2, 1),
    decoder_ffn_dims=(256, 128, 64),
    decoder_self_heads=(4, 2, 1),
    decoder_cross_heads=(4, 2, 1),
    decoder_cross_layers=(1, 2, 3),
    qkv_dim=128,
)

SMALL = SearchSpace(
    name="small",  # corpora of 30,000 to 200,000 short pairs, such as Multi30k and Tatoeba
    encoder_embed_dims=(256, 192, 128, 64),
    encoder_depths=(6, 5, 4, 3, 2, 1),
    encoder_ffn_dims=(1024, 512, 256, 128),
    encoder_heads=(8, 4, 2),
    decoder_embed_dims=(256, 192, 128, 64),
    decoder_depths=(4, 3, 2, 1),
    decoder_ffn_dims=(1024, 512, 256, 128),
    decoder_self_heads=(8, 4, 2),
    decoder_cross_heads=(8, 4, 2),
    decoder_cross_layers=(1, 2, 3),
    qkv_dim=256,
)

DEEP_SHALLOW = SearchSpace(
    name="deep-shallow",
    # Differs from HAT: encoder depth is elastic, up to 12. The encoder runs once a sentence and is 3-5 % of latency,
    # the decoder once a token; deep encoders with shallow decoders win (Kasai et al., arXiv 2006.10369).
    encoder_embed_dims=(640, 512),
    encoder_depths=(12, 10, 8, 6, 4),
    encoder_ffn_dims=(3072, 2048, 1024),
    encoder_heads=(8, 4),
    decoder_embed_dims=(640, 512),
    decoder_depths=(6, 5, 4, 3, 2, 1),
    decoder_ffn_dims=(3072, 2048, 1024),
    decoder_self_heads=(8, 4),
    decoder_cross_heads=(8, 4),
    decoder_cross_layers=(1, 2, 3),
)

PRESETS: dict[str, SearchSpace] = {
    space.name: space for space in (SPACE0, SPACE1, HAT_LATENCY, TOY, SMALL, DEEP_SHALLOW)
}


def preset(name: str) -> SearchSpace:
    """Return a preset by name; raise SpaceError that names the nearest one."""
    if name not in PRESETS:
        near = nearest_name(name, list(PRESETS))
        hint = f"did you mean {near}?" if near else f"known are {', '.join(PRESETS)}"
        raise SpaceError(f"no search space is called {name!r}; {hint}")
    return PRESETS[name]
