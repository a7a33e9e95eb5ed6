"""Which model is served, and on what: told to every replica, opened by each."""

from dataclasses import dataclass
from pathlib import Path

import torch

from hat_ray.core.usable_cpus import usable_cpus
from hat_ray.export.export import is_export, open_export
from hat_ray.export.loaded import LoadedModel
from hat_ray.pipeline.models import served_model
from hat_ray.recipe import Recipe


@dataclass(frozen=True)
class ModelChoice:
    """A run's model on a runtime, or an exported folder. It pickles; `place` must be one that every replica reaches."""

    place: str
    recipe: Recipe | None = None
    """The run's; None: `place` is an exported folder, which says all else itself."""
    model_id: str | None = None
    runtime: str = "eager"
    dtype: str = "fp32"
    short_list: int = 0
    """Target words listed for each source word, by runtime onnx; 0: all words may follow."""
    beam: int | None = None
    """Hypotheses kept of an exported model; a run's are its recipe's. None: the export's own."""

    def open(self, threads: int) -> LoadedModel:
        """Load the model; 0 threads: one for each usable CPU. PyTorch's threads are the calling thread's."""
        threads = threads or usable_cpus()
        torch.set_num_threads(threads)
        if self.recipe is None:
            return open_export(self.place, threads, **({} if self.beam is None else {"beam": self.beam}))
        return served_model(self.recipe, self.place, self.model_id, self.runtime, self.dtype, threads, self.short_list)

    def about(self) -> dict[str, str]:
        """Return what a client may know of the model."""
        if self.recipe is None:
            return {"export": Path(self.place).name}
        return {"recipe": self.recipe.name, "runtime": self.runtime, "dtype": self.dtype}


def is_exported(place: str) -> bool:
    """Tell whether a place is an exported folder."""
    return "://" not in place and is_export(place)
