"""Stage `corpus`: text to sub-words and token tables."""

import logging

from hat_ray.corpus.corpus import CorpusSummary
from hat_ray.corpus.text.download import fetch
from hat_ray.corpus.text.fingerprint import input_fingerprint
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)


def fetch_texts(context: Context) -> None:
    """Download the text that the recipe names."""
    if not context.recipe.corpus.downloads:
        return
    with context.progress("downloading") as progress:
        fetch(context.recipe.corpus, progress)


def prepare_corpus(context: Context, folder: Folder) -> CorpusSummary:
    """Prepare the corpus; warn where less than half of the training text is kept, or the test set leaks into it."""
    with context.progress("preparing the corpus") as progress:
        summary = context.execution.prepare(context.recipe.corpus, folder, context.recipe.seed, progress)
    train = summary.train
    log.log(logging.WARNING if 2 * train.pairs < train.read else logging.INFO, "training text: %s", train.kept_text)
    if leak := summary.leak():
        log.warning(leak)
    return summary


CORPUS = Stage.of(
    "corpus",
    CorpusSummary,
    prepare_corpus,
    outside=lambda context: input_fingerprint(context.recipe.corpus, context.recipe.seed),
    before=fetch_texts,
)
