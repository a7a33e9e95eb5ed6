"""A recipe whose space lies around a trained model."""

from typing import Any

from hat_ray.foreign.open import open_foreign
from hat_ray.foreign.opened import ForeignModel
from hat_ray.model.checkpoints.start import network_settings
from hat_ray.space.derived import space_around


def recipe_around(place: str, name: str) -> tuple[dict[str, Any], ForeignModel]:
    """Return the recipe's sections that follow from a model, and the model; raise HatRayError where there is none."""
    opened = open_foreign(place)
    model = opened.model
    space = opened.space or space_around(model.holds)
    sizes = {"source": model.source_vocab_size, "target": model.target_vocab_size}
    largest = space.largest()
    one_width = largest.encoder.embed_dim == largest.decoder.embed_dim
    settings = network_settings(model.config)
    if one_width or model.config.share_embeddings != "all":
        settings["sharing"] = "importance"
    return {
        "name": name,
        "description": f"Around {place}, of {sizes['source']} source and {sizes['target']} target sub-words",
        "space": {key: value for key, value in space.to_dict().items() if key != "name"},
        "model": settings,
        "supernet": {"init": place},
    }, opened
