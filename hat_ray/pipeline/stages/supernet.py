"""Stage `supernet`: train the weights that all architectures share."""

from hat_ray.pipeline.context import train_job
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.storage.folder import Folder
from hat_ray.train.state import TrainResult


def train_supernet(context: Context, folder: Folder) -> TrainResult:
    """Train the SuperTransformer."""
    job = train_job(context, "supernet", None, folder)
    with context.progress("training the SuperTransformer") as progress:
        return context.execution.train_super(job, progress)


SUPERNET = Stage.of("supernet", TrainResult, train_supernet)
