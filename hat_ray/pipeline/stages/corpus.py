"""Stage `corpus`: text to sub-words and token tables."""

import logging

from hat_ray.corpus.cleaning.finding import finding_lines
from hat_ray.corpus.corpus import CorpusSummary
from hat_ray.corpus.text.download import fetch
from hat_ray.corpus.text.fingerprint import input_fingerprint
from hat_ray.pipeline.stage import Context, Stage
from hat_ray.pipeline.trained.translations import corpus_identity, teach_corpus
from hat_ray.storage.folder import Folder

log = logging.getLogger(__name__)


def fetch_texts(context: Context) -> None:
    """Download the text that the recipe names."""
    if not context.recipe.corpus.downloads:
        return
    with context.progress("downloading") as progress:
        fetch(context.recipe.corpus, progress)


def prepare_corpus(context: Context, folder: Folder) -> CorpusSummary:
    """Prepare the corpus, after its teacher has translated the training text where there is one.

    Warn where the sides of the text do not belong together, where less than half of the training text is kept, and
    where `leaks` is `warn` and there are some.
    """
    taught = teach_corpus(context)
    with context.progress("preparing the corpus") as progress:
        summary = context.execution.prepare(context.recipe.corpus, folder, context.recipe.seed, progress, taught)
    train = summary.train
    if 2 * train.pairs < train.read:
        log.warning("less than half of the training text is kept: %s", train.kept_text)
    for line in finding_lines(summary.findings):
        log.warning(line)
    if summary.leaks == "warn" and (leak := summary.leak()):
        log.warning(leak)
    return summary


def _outside(context: Context) -> str:
    """Return what decides the corpus and stands outside the run: its text, and its teacher."""
    text, teacher = input_fingerprint(context.recipe.corpus, context.recipe.seed), corpus_identity(context)
    return text if teacher is None else f"{text} {teacher}"


CORPUS = Stage.of(
    "corpus",
    CorpusSummary,
    prepare_corpus,
    outside=_outside,
    before=fetch_texts,
    closing=lambda summary: (
        f"{summary.train.kept_text}, {summary.valid.pairs:,} validation, {summary.test.pairs:,} test"
    ),
)
