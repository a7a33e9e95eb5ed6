"""Results that stages read from one another."""

from dataclasses import asdict

from hat_ray.core.determinism import stream_seed
from hat_ray.corpus.batches import collate, make_unshuffled_batches
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.vocabulary.make import expected_vocabularies
from hat_ray.errors import RunError
from hat_ray.latency.table.row import LatencyRow
from hat_ray.latency.table.table import keep, read_table, scan_table
from hat_ray.latency.timing.job import TimingJob
from hat_ray.latency.timing.workload import Workload, draw_pairs
from hat_ray.model.checkpoints.native import load_super
from hat_ray.pipeline.stage import Context
from hat_ray.search.scorer import CandidateScorer
from hat_ray.space.architecture import Architecture
from hat_ray.storage.folder import Folder
from hat_ray.train.job import SUPERNET, TrainJob


def timing_job(context: Context, folder: Folder, *, again: bool = False, session_id: str = "") -> TimingJob:
    """Return this run's timing job, with the table that it writes to: a shared one, or its own.

    The corpus gives the size of the vocabulary, and the lengths of a mix; before it is prepared, the recipe does.
    """
    recipe = context.recipe
    corpus = Corpus.load(context.folder("corpus")) if context.run.record("corpus") else None
    count = recipe.latency.length_mix
    if count and corpus is None:
        raise RunError("latency.length_mix draws lengths from the corpus: do `hat-ray corpus` first, or set it to 0")
    root = Folder.at(recipe.latency.table) if recipe.latency.table else folder.child("table")
    source_size, target_size = corpus.vocabularies.sizes if corpus else expected_vocabularies(recipe.corpus)
    return TimingJob(
        recipe.space.build(),
        recipe.model,
        target_size,
        recipe.latency,
        root,
        again=again,
        session_id=session_id,
        length_pairs=_pairs(corpus, count) if corpus and count else (),
        kept=context.tables.setdefault(root.uri, keep(root)),
        bounded=recipe.search.bounded,
        source_vocab_size=source_size,
    )


def _pairs(corpus: Corpus, count: int) -> tuple[tuple[int, int], ...]:
    return draw_pairs(corpus.valid.source.lengths, corpus.valid.target.lengths, count)


def workload_of(context: Context) -> Workload:
    """Return the workload of this run's timings."""
    return timing_job(context, context.folder("latency")).protocol.workload


def rows_of(job: TimingJob, slug: str) -> list[LatencyRow]:
    """Return the table's rows of this job's spaces and workload on a device."""
    return read_table(job.table, job.spaces, slug, workload=job.workload_on(slug))


def timed_of(job: TimingJob, slug: str) -> dict[Architecture, float]:
    """Return each architecture's drift-corrected milliseconds on a device: two columns of those rows."""
    columns = ["architecture_json", "latency_corrected_ms"]
    where = asdict(job.workload_on(slug))
    texts, times = scan_table(job.table, job.spaces, slug, columns, where=where, best_only=True).columns
    pairs = zip(texts.to_pylist(), times.to_pylist(), strict=True)
    return {Architecture.from_json(text): float(ms) for text, ms in pairs if text is not None}


def scorer_of(context: Context) -> CandidateScorer:
    """Return the scorer of this run's architectures: the SuperTransformer and the validation set."""
    recipe, table = context.recipe, Corpus.load(context.folder("corpus")).valid
    batches = [collate(table, rows) for rows in make_unshuffled_batches(table, recipe.supernet.valid_max_tokens)]
    model = load_super(context.folder("supernet"), SUPERNET)
    kept = recipe.search.encoder_cache_mb << 20
    parts = recipe.search.early_stop
    return CandidateScorer(model, batches, recipe.supernet.label_smoothing, cache_bytes=kept, in_parts=parts)


def train_job(
    context: Context, section: str, architecture: Architecture | None, folder: Folder, number: int = 0
) -> TrainJob:
    """Return one training of this run; None trains the SuperTransformer. `number` counts its seeds."""
    recipe = context.recipe
    return TrainJob(
        architecture=architecture,
        space=recipe.space.build(),
        corpus=context.folder("corpus"),
        model_config=recipe.model,
        config=recipe.supernet if section == "supernet" else recipe.retrain,
        folder=folder,
        seed=stream_seed(recipe.seed, section, *([number] if number else [])),
    )
