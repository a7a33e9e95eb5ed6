"""A network's shape as the configuration file that Marian trains it with."""

from collections.abc import Sequence

import yaml

from hat_ray.foreign.marian.settings import training_settings
from hat_ray.model.config import ModelConfig
from hat_ray.space.architecture import Architecture


def config_text(architecture: Architecture, config: ModelConfig, name: str, about: Sequence[str] = ()) -> str:
    """Return a YAML file of Marian's options for the network alone; raise CheckpointError for what Marian lacks.

    Text, vocabularies, dropout and all else of the training are the user's own options beside it. `about` are lines of
    comment.
    """
    options = training_settings(architecture, config, f"{architecture.id} of {name}")
    lines = (
        f"{architecture.id}: {architecture}",
        *about,
        "marian -c THIS_FILE --train-sets train.src train.tgt --vocabs vocab.spm vocab.spm --model model.npz ...",
    )
    comments = "".join(f"# {line}\n" for line in lines)
    return comments + yaml.safe_dump(options, sort_keys=False, default_flow_style=False)
