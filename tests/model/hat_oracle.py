"""Reads the reference outputs of HAT's own code (../shared/hat/oracle)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hat_ray.model.checkpoints.fairseq import model_from_state
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.space.architecture import Architecture
from hat_ray.space.hat_yaml import architecture_from_config

VARIANTS = ("shared", "unequal")
BATCHES = ("pad", "nopad", "rightpad")


@dataclass(frozen=True)
class Oracle:
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    model: SuperTransformer
    folder: Path

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def architecture(self, name: str) -> Architecture:
        return self.architecture_of(self.facts["configs"][name])

    def architecture_of(self, config: dict[str, Any]) -> Architecture:
        arguments = self.facts["args"]
        return architecture_from_config(config, arguments["qkv_dim"], arguments["encoder_layers"])


def load(shared: Path, variant: str) -> Oracle:
    folder = shared / "hat" / "oracle"
    facts = json.loads((folder / f"{variant}.json").read_text())
    state = torch.load(folder / f"{variant}_model_state_dict.pt", weights_only=True)
    model = model_from_state(state, facts["args"], variant).model
    with np.load(folder / f"{variant}.npz") as arrays:
        return Oracle(facts, dict(arrays), model, folder)
