"""hat-ray: hardware-aware architecture search for translation Transformers, on Ray.

>>> import hat_ray
>>> run = hat_ray.load("runs/toy")
>>> model = run.model(run.winners[0].id)
>>> len(model.translate(["", "..."]))
2

The public names are those of `__all__`. Each is imported at its first use: `import hat_ray` loads neither PyTorch nor
Ray.
"""

import os as _os  # Python has loaded it before: no file of the current folder can take its place

_os.environ.setdefault("GOMP_SPINCOUNT", "5000")
"""Turns for which threads of PyTorch and XGBoost wait for one another before they sleep (GNU OpenMP, on Linux). With
its default of 300,000 two threads beside other work take up to five times as long as one (`bench_busy.py`). It is read
when PyTorch is loaded, so it stands here."""

TYPE_CHECKING = False  # as type checkers read it: an import here would come before `cli/own_path.py`
if TYPE_CHECKING:
    from hat_ray.api import Model, Prediction, Run, load, open_model, run
    from hat_ray.certificate.certificate import Certificate, CertificateRules
    from hat_ray.certificate.certify import certify
    from hat_ray.certificate.verify import verify_certificate
    from hat_ray.errors import HatRayError
    from hat_ray.evaluate.distil import Distilled
    from hat_ray.exchange import (
        convert,
        distil,
        import_model,
        import_recipe,
        import_super,
        marian_config,
        space_around,
    )
    from hat_ray.model.hypotheses.found import Hypothesis
    from hat_ray.model.hypotheses.knobs import Decoding
    from hat_ray.pipeline.imports.hat_recipe import ImportedRecipe
    from hat_ray.recipe import Recipe
    from hat_ray.runtime.protocol import register_runtime
    from hat_ray.search.algorithms.registry import register_algorithm
    from hat_ray.search.candidates import Candidate
    from hat_ray.space.architecture import Architecture
    from hat_ray.space.hat_yaml import load_architecture
    from hat_ray.space.search_space import SearchSpace

__version__ = "0.1.0"
__all__ = [
    "Architecture",
    "Candidate",
    "Certificate",
    "CertificateRules",
    "Decoding",
    "Distilled",
    "HatRayError",
    "Hypothesis",
    "ImportedRecipe",
    "Model",
    "Prediction",
    "Recipe",
    "Run",
    "SearchSpace",
    "certify",
    "convert",
    "distil",
    "import_model",
    "import_recipe",
    "import_super",
    "load",
    "load_architecture",
    "marian_config",
    "open_model",
    "register_algorithm",
    "register_runtime",
    "run",
    "space_around",
    "verify_certificate",
]

_MODULES = {
    "Architecture": "space.architecture",
    "Candidate": "search.candidates",
    "Certificate": "certificate.certificate",
    "CertificateRules": "certificate.certificate",
    "Decoding": "model.hypotheses.knobs",
    "Distilled": "evaluate.distil",
    "HatRayError": "errors",
    "Hypothesis": "model.hypotheses.found",
    "ImportedRecipe": "pipeline.imports.hat_recipe",
    "Model": "api",
    "Prediction": "api",
    "Recipe": "recipe",
    "Run": "api",
    "SearchSpace": "space.search_space",
    "certify": "certificate.certify",
    "convert": "exchange",
    "distil": "exchange",
    "import_model": "exchange",
    "import_recipe": "exchange",
    "import_super": "exchange",
    "load": "api",
    "load_architecture": "space.hat_yaml",
    "marian_config": "exchange",
    "open_model": "api",
    "register_algorithm": "search.algorithms.registry",
    "register_runtime": "runtime.protocol",
    "run": "api",
    "space_around": "exchange",
    "verify_certificate": "certificate.verify",
}
"""The module of each public name."""

if not TYPE_CHECKING:  # else a type checker would take every name for a public one

    def __getattr__(name: str) -> object:
        """Import a public name at its first use."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(__import__(f"{__name__}.{_MODULES[name]}", fromlist=[name]), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        """Return all names, those that are not yet imported included."""
        return sorted({*globals(), *__all__})
