"""Settings of the trainings of a search's finalists. Loads no PyTorch: checks estimate by them what a search takes."""

from hat_ray.recipe import Recipe
from hat_ray.train.config import TrainConfig


def rung_config(recipe: Recipe, updates: int) -> TrainConfig:
    """Return the settings of a rung: the SuperTransformer's batches, and a schedule of its own."""
    base, search = recipe.supernet, recipe.search
    kept = (
        *("max_tokens", "accumulate", "adam_betas", "adam_eps", "weight_decay", "label_smoothing", "clip_norm"),
        *("precision", "valid_max_tokens", "threads", "use_gpu", "max_failures", "max_wait_s", "checkpoint_every"),
    )
    values = {name: getattr(base, name) for name in kept}
    lr = search.finalist_lr or base.lr / 2
    return TrainConfig(
        **values,
        updates=updates,
        lr=lr,
        min_lr=min(base.min_lr, lr),
        warmup_updates=updates // 10,
        schedule="cosine",
        validate_every=updates,
        keep_best=False,
        keep_last=1,
        tensorboard=False,
        teacher_share=search.finalist_distillation or TrainConfig.model_fields["teacher_share"].default,
    )
