"""Which model is served and on what. The description travels to every replica; each opens the model by itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from hat_ray.core.usable_cpus import usable_cpus
from hat_ray.errors import RunError
from hat_ray.export.export import open_export
from hat_ray.export.loaded import LoadedModel
from hat_ray.export.place import is_export
from hat_ray.pipeline.models import refuse_model_id, served_model
from hat_ray.pipeline.places import Place, place_of, why_no_weights
from hat_ray.recipe import Recipe, load_run_recipe
from hat_ray.runtime.choice import require
from hat_ray.runtime.protocol import RuntimeSettings
from hat_ray.storage.copies import name_of
from hat_ray.storage.folder import Folder


@dataclass(frozen=True)
class ModelSource:
    """The model of a run or a model folder on a runtime, or an export. It pickles; every replica must reach `place`."""

    place: str
    recipe: Recipe | None = None
    """The run's. None: the one in its folder; a model folder and an export have none."""
    model_id: str | None = None
    """A run's retrained model. None: the first winner."""
    runtime: str | None = None
    """Of a run's model or a model folder's. None: the fastest that executes it (`runtime/choice.py`)."""
    dtype: str | None = None
    short_list: int | None = None
    """Target words listed for each source word, by runtime onnx. None or 0: all words may follow."""
    beam: int | None = None
    """Hypotheses kept by beam search. None: those of the recipe or export."""

    def resolved(self, option: Callable[[str], str] = str) -> "ModelSource":
        """Return it with the folder's values filled in; raises RunError, which names options by `option`."""
        if is_export(self.place):
            given = {
                "model": self.model_id,
                "runtime": self.runtime,
                "dtype": self.dtype,
                "short_list": self.short_list,
            }
            if wrong := [option(name) for name, value in given.items() if value is not None]:
                raise RunError(
                    f"{self.place} is an exported model, which brings its own: leave {' and '.join(wrong)} out"
                )
            return self
        dtype = self.dtype or "fp32"
        require(self.runtime, RuntimeSettings(dtype))
        resolved = replace(self, dtype=dtype, short_list=self.short_list or 0)
        if self.recipe is not None:
            return resolved
        found = place_of(self.place)
        if found is Place.MODEL:
            refuse_model_id(self.place, self.model_id)
            return resolved
        if found is not Place.RUN:
            raise RunError(why_no_weights(self.place, found))
        changes = [f"evaluate.beam={self.beam}"] if self.beam else None
        return replace(resolved, recipe=load_run_recipe(Folder.at(self.place), changes))

    def open(self, threads: int) -> LoadedModel:
        """Load the model; 0 threads: one for each usable CPU. PyTorch's threads are the calling thread's."""
        threads = threads or usable_cpus()
        torch.set_num_threads(threads)
        source = self.resolved()
        if is_export(self.place):
            return open_export(self.place, threads, **({} if self.beam is None else {"beam": self.beam}))
        on = source.runtime, source.dtype or "fp32", threads, source.short_list or 0
        return served_model(source.place, source.recipe, source.model_id, *on, self.beam)

    def public_facts(self, loaded: LoadedModel) -> dict[str, str]:
        """Return the facts of the model, as it was opened, for clients."""
        source = self.resolved()
        given = {"source_language": loaded.source_language, "target_language": loaded.target_language}
        languages = {name: code for name, code in given.items() if code is not None}
        if is_export(self.place):
            return {"export": name_of(source.place), **languages}
        name = {"recipe": source.recipe.name} if source.recipe else {"model": Folder.at(source.place).name}
        return {**name, "runtime": loaded.runtime, "dtype": loaded.dtype, **languages}
