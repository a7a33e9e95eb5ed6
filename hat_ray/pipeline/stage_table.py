"""Every stage of a run.

corpus -> supernet -> latency -> predictor -> search -> retrain -> evaluate -> report
Beside them, by their own commands: sweep, ranking, policies.
"""

from typing import Any

from hat_ray.pipeline.stage import Stage
from hat_ray.pipeline.stages.corpus import CORPUS
from hat_ray.pipeline.stages.evaluate import EVALUATE
from hat_ray.pipeline.stages.latency import LATENCY, SWEEP
from hat_ray.pipeline.stages.policies import POLICIES
from hat_ray.pipeline.stages.predictor import PREDICTOR
from hat_ray.pipeline.stages.ranking import RANKING
from hat_ray.pipeline.stages.report import REPORT
from hat_ray.pipeline.stages.search import SEARCH
from hat_ray.pipeline.stages.train import RETRAIN, SUPERNET

STAGES: tuple[Stage[Any], ...] = (CORPUS, SUPERNET, LATENCY, PREDICTOR, SEARCH, RETRAIN, EVALUATE, REPORT)
"""The stages of a recipe, in order."""

STUDIES: tuple[Stage[Any], ...] = (SWEEP, RANKING, POLICIES)
"""Stages that only their own commands run; the report shows them where they are finished."""
