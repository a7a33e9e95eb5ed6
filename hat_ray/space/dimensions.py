"""The table of elastic dimensions, from which everything derives that names them.

Spaces, samples, genes, predictor features, YAML, recipes and figures read `DIMENSIONS`. HAT's ten come first; the order
is the order of genes. A new dimension is a new row with an `absent` value: spaces, recipes and tables that do not name
it stay valid, with the same ids and seeds. Predictors get columns for it and are fitted again.

An installed package adds a dimension by an entry point of the group `hat_ray.dimensions` that names a `Dimension`. Its
rows follow, sorted by entry point. Every machine of a cluster needs the package.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points

from hat_ray.core.registry import package_of
from hat_ray.errors import SpaceError
from hat_ray.space.dimension import MAX_DEPTH, Dimension

GROUP = "hat_ray.dimensions"

CELLS = "decoder_cells"
"""Name of the dimension that says by what a decoder layer sees the words before: by self-attention, or by an SSRU."""
SELF_HEADS = "decoder_self_heads"
"""Name of the dimension that a layer without self-attention does not have: its value there is 1."""

HAT_CROSS_LAYERS: Mapping[int, int] = {-1: 1, 1: 2, 2: 3}
"""HAT's codes for the last encoder layers that a decoder layer attends to, and their numbers."""

BUILT_IN = (
    Dimension(
        name="encoder_embed_dims",
        title="encoder width",
        description="Widths of the encoder.",
        side="encoder",
        field="embed_dim",
        hat_key="encoder-embed-dim",
    ),
    Dimension(
        name="encoder_depths",
        title="encoder layers",
        description="Numbers of encoder layers.",
        side="encoder",
        field="depth",
        most=MAX_DEPTH,
        hat_key="encoder-layer-num",
    ),
    Dimension(
        name="encoder_ffn_dims",
        title="encoder FFN width",
        description="Hidden widths of each encoder layer's feed-forward network.",
        side="encoder",
        field="ffn_dims",
        per_layer=True,
        hat_key="encoder-ffn-embed-dim",
    ),
    Dimension(
        name="encoder_heads",
        title="encoder heads",
        description="Self-attention heads of each encoder layer.",
        side="encoder",
        field="heads",
        per_layer=True,
        hat_key="encoder-self-attention-heads",
    ),
    Dimension(
        name="decoder_embed_dims",
        title="decoder width",
        description="Widths of the decoder.",
        side="decoder",
        field="embed_dim",
        hat_key="decoder-embed-dim",
    ),
    Dimension(
        name="decoder_depths",
        title="decoder layers",
        description="Numbers of decoder layers.",
        side="decoder",
        field="depth",
        most=MAX_DEPTH,
        hat_key="decoder-layer-num",
    ),
    Dimension(
        name="decoder_ffn_dims",
        title="decoder FFN width",
        description="Hidden widths of each decoder layer's feed-forward network.",
        side="decoder",
        field="ffn_dims",
        per_layer=True,
        hat_key="decoder-ffn-embed-dim",
    ),
    Dimension(
        name="decoder_self_heads",
        title="decoder self heads",
        description="Self-attention heads of each decoder layer.",
        side="decoder",
        field="self_heads",
        per_layer=True,
        hat_key="decoder-self-attention-heads",
    ),
    Dimension(
        name="decoder_cross_heads",
        title="decoder cross heads",
        description="Encoder-decoder attention heads of each decoder layer.",
        side="decoder",
        field="cross_heads",
        per_layer=True,
        hat_key="decoder-ende-attention-heads",
    ),
    Dimension(
        name="decoder_cross_layers",
        title="layers attended",
        description="How many of the last encoder layers (1 to 3) each decoder layer may attend to.",
        side="decoder",
        field="cross_layers",
        per_layer=True,
        capped_by="encoder_depths",
        hat_key="decoder-arbitrary-ende-attn",
        hat_codes=HAT_CROSS_LAYERS,
    ),
    Dimension(
        name=CELLS,
        title="decoder cells",
        description="Cell of each decoder layer: `attention`, or `ssru`, a recurrence with a state of constant size.",
        side="decoder",
        per_layer=True,
        words=("ssru", "attention"),
        absent="attention",
    ),
)


def _with_packages() -> tuple[Dimension, ...]:
    """Return the rows above and those of installed packages; raise SpaceError for an entry point that is none.

    A broken package is never passed over: without its columns, predictors and genes would not fit those of other nodes.
    """
    found: dict[str, Dimension] = {one.name: one for one in BUILT_IN}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
        source = f"dimension {entry.name} of {package_of(entry)} ({entry.value})"
        try:
            dimension = entry.load()
        except Exception as error:  # the package's own code, which may raise anything
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise SpaceError(f"{source} cannot be loaded ({why}): mend or uninstall the package") from error
        if not isinstance(dimension, Dimension):
            raise SpaceError(f"{source} must name a Dimension, got {repr(dimension)[:80]}")
        if dimension.field is not None:
            raise SpaceError(f"{source}: `field` must be None, got {dimension.field!r}: Architecture.extra holds it")
        if dimension.name in found:
            raise SpaceError(f"{source}: a dimension {dimension.name} exists: give it another name")
        found[dimension.name] = dimension
    return tuple(found.values())


DIMENSIONS: tuple[Dimension, ...] = _with_packages()
"""All elastic dimensions, in the order of genes."""

BY_NAME: Mapping[str, Dimension] = {dimension.name: dimension for dimension in DIMENSIONS}
