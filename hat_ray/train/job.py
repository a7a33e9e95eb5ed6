"""One training as a value, so that it can travel to a worker and be done there."""

from dataclasses import dataclass

from hat_ray.corpus.dataset import Corpus
from hat_ray.model.config import ModelConfig
from hat_ray.progress import Progress, silent
from hat_ray.space.architecture import Architecture
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage import Folder
from hat_ray.train.config import TrainConfig
from hat_ray.train.result import TrainResult
from hat_ray.train.train import finished, sub_fingerprint, super_fingerprint, train_sub, train_super
from hat_ray.train.workers import Workers


@dataclass(frozen=True)
class TrainJob:
    """One training; the corpus is named here and read where the work is done."""

    architecture: Architecture | None
    """What to train from scratch; None for the SuperTransformer."""
    space: SearchSpace
    corpus: Folder
    model_config: ModelConfig
    config: TrainConfig
    folder: Folder
    seed: int

    def finished(self) -> TrainResult | None:
        """Return the result if this training is over; raises CheckpointError when another one's stands there."""
        settings = (self.space, Corpus.load(self.corpus), self.model_config, self.config, self.seed)
        if self.architecture is None:
            return finished(self.folder, super_fingerprint(*settings))
        return finished(self.folder, sub_fingerprint(self.architecture, *settings))

    def run(self, progress: Progress = silent, workers: Workers | None = None) -> TrainResult:
        """Train in this process; resume what was interrupted, return at once what is finished."""
        corpus = Corpus.load(self.corpus)
        settings = (self.space, corpus, self.model_config, self.config, self.folder, self.seed, progress, workers)
        return train_super(*settings) if self.architecture is None else train_sub(self.architecture, *settings)
