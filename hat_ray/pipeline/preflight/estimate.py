"""Disk and memory that a recipe takes, in closed form: at least, and at most.

P: parameters of the largest architecture, embeddings included (every weight is 4 bytes); V: vocabulary; L: limits of
all devices. Bounds were held against real runs of two sizes (`test_estimate.py`).

Disk
- corpus: 4 bytes a token and 8 a sentence. Text has at most one token a byte, toy sentences 40 a side;
  validation and test keep their text beside it.
- a training: (k + 2) checkpoints of 12 P (weights and Adam's two moments) and a model of 4 P, where k =
  max(keep_last, average_last, average_best where it counts), and no more checkpoints than it writes. At least: the k
  that stay; a SuperTransformer's few updates may leave layers without moments, so that only its weights are sure.
- retrain: that for each training of a winner of L and of its rivals, and of the largest. At least: the smallest
  architecture's, once.
- search: 16 KB a candidate. While finalists are trained: the model that each starts from, and a training of each in the
  first rung, of half of them in the next, and so on; a teacher where the loss takes some from it.
- latency: 48 KB a row (a file of its own each); report: 10 MB; evaluate: thrice the test
  set's text a model.

Memory of a process
- 600 MB (Python, PyTorch and Ray's client), 28 P (weights, gradients, Adam's moments, and a checkpoint's copy), and
  the larger of what `max_tokens` tokens leave behind in all layers for the gradients, and what a validation batch
  needs for the largest layer and the words (`_activations`). At least: 16 P, of a SuperTransformer 4 P.
- A worker of the search: 600 MB, 4 P, its cache, and a validation batch. Then finalists are trained, as many at once as
  there are CPUs for.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from hat_ray.corpus.config import CorpusConfig
from hat_ray.corpus.text.download import text_files
from hat_ray.model.config import ModelConfig
from hat_ray.pipeline.preflight.text import data_bin_bytes, text_bytes
from hat_ray.pipeline.trained.rung_settings import rung_config
from hat_ray.recipe import Recipe
from hat_ray.space.architecture import Architecture
from hat_ray.space.cost import count_params, ssru_params
from hat_ray.space.dimensions import BY_NAME, CELLS
from hat_ray.space.search_space import SearchSpace
from hat_ray.train.config import TrainConfig

_WEIGHT_BYTES, _CHECKPOINT_BYTES, _TRAINING_BYTES, _COPIED_BYTES = 4, 12, 16, 28
_PROCESS_BYTES = 600 << 20
_RAY_BYTES = 1 << 30
_ROW_BYTES, _CANDIDATE_BYTES, _PAGE_BYTES, _LEAST_PAGE_BYTES = 48 << 10, 16 << 10, 10 << 20, 1 << 20
_TOY_TOKENS, _TOY_TEXT_BYTES = 40, 200
_SLACK = 1.5
"""Memory that the allocator holds beyond the memory in use."""


Sizes = tuple[int, int]
"""Entries of the source's and the target's vocabulary."""


@dataclass(frozen=True)
class Estimate:
    """Bytes: a lower and an upper bound."""

    least: float = 0
    most: float = 0

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.least + other.least, self.most + other.most)


def disk_of(recipe: Recipe, stages: Iterable[str], words: Sizes) -> Estimate:
    """Return the growth of the run folder by these stages."""
    space = recipe.space.build()
    largest, smallest = (params_of(a, words, recipe.model) for a in (space.largest(), space.smallest()))
    trainings = _trainings(recipe)
    devices = len(recipe.latency.timed)
    scratch = Estimate(
        _kept(recipe.retrain, smallest, _CHECKPOINT_BYTES).least,
        trainings * _kept(recipe.retrain, largest, _CHECKPOINT_BYTES).most,
    )
    text = _text_bytes(recipe.corpus)
    of_stage = {
        "corpus": Estimate(0, _corpus_most(recipe.corpus)),
        "supernet": _kept(recipe.supernet, super_params_of(space, words, recipe.model), _WEIGHT_BYTES),
        "latency": Estimate(0, _ROW_BYTES * recipe.latency.samples * devices),
        "search": Estimate(0, _CANDIDATE_BYTES * (recipe.search.evaluations + 200) + _finals_most(recipe, largest)),
        "retrain": scratch,
        "evaluate": Estimate(0, trainings * (3 * text + _ROW_BYTES * devices)),
        "report": Estimate(_LEAST_PAGE_BYTES, _PAGE_BYTES),
    }
    return sum((of_stage[stage] for stage in stages if stage in of_stage), Estimate())


def memory_of(recipe: Recipe, stages: Iterable[str], words: Sizes, cpus: int, *, local: bool) -> Estimate:
    """Return the memory that the most demanding of these stages takes at once on one machine of `cpus` CPUs."""
    largest = recipe.space.build().largest()
    params = super_params_of(recipe.space.build(), words, recipe.model)
    beside = max(_trainings(recipe), recipe.retrain.workers)
    scratch = 1 if local else min(beside, max(1, cpus // recipe.retrain.threads))
    workers = 1 if local else recipe.supernet.workers
    searching = 1 if local else recipe.search.workers
    finals = min(_limits(recipe) * _finalists(recipe), 1 if local else max(1, cpus // recipe.supernet.threads))
    cache = recipe.search.encoder_cache_mb << 20
    valid = _validation(largest, recipe.supernet.valid_max_tokens, recipe.corpus.max_length, words[1])
    alone = recipe.space.build().smallest() if "largest" not in recipe.retrain.baselines else largest
    sure = _TRAINING_BYTES * params_of(alone, words, recipe.model)
    of_stage = {
        "supernet": _training(recipe, recipe.supernet, words[1], workers, params, _WEIGHT_BYTES * params),
        "search": Estimate(
            searching * _WEIGHT_BYTES * params,
            max(
                searching * (_PROCESS_BYTES + _WEIGHT_BYTES * params + cache + valid),
                _training(recipe, recipe.supernet, words[1], finals, params, 0).most,
            ),
        ),
        "retrain": _training(recipe, recipe.retrain, words[1], scratch, params, sure),
    }
    found = [of_stage[stage] for stage in stages if stage in of_stage] or [Estimate()]
    base = Estimate(0, _PROCESS_BYTES + (0 if local else _RAY_BYTES))
    return base + Estimate(max(one.least for one in found), max(one.most for one in found))


def params_of(architecture: Architecture, words: Sizes, config: ModelConfig) -> int:
    """Return all parameters of an architecture as a model of its own, with vocabularies of these sizes."""
    source, target = architecture.encoder.embed_dim, architecture.decoder.embed_dim
    apart = words[0] * source + words[1] * target
    tables = {"all": words[1] * max(source, target), "decoder": apart, "none": apart + words[1] * target}
    last = config.final_norms
    norms = 2 * (source * last[0] + target * last[1])
    positions = (config.max_positions + 2) * (source + target) if config.positions == "learned" else 0
    embeddings = tables[config.share_embeddings] + words[1] * config.output_bias
    return count_params(architecture) + embeddings + norms + positions


def super_params_of(space: SearchSpace, words: Sizes, config: ModelConfig) -> int:
    """Return all parameters of a space's SuperTransformer: its largest architecture, and each layer's other cells."""
    largest = space.largest()
    others = set(space.choices.get(CELLS, ())) - set(largest.cells)
    more = ssru_params(largest.decoder.embed_dim) * largest.decoder.depth if "ssru" in others else 0
    return params_of(largest, words, config) + more


def _kept(config: TrainConfig, params: int, sure: int) -> Estimate:
    """Return the disk that a training takes; `sure` bytes a parameter are in every checkpoint."""
    written = math.ceil(config.updates / config.checkpoint_every)
    if config.saves_validations:
        written += math.ceil(config.updates / config.validate_every)
    stay = min(max(config.keep_last, config.average_last, config.averaged), written)
    least = stay * sure * params + _WEIGHT_BYTES * params
    most = (
        min(stay + 1 + max(1, config.best_kept), written + 1) * (_CHECKPOINT_BYTES * params + (64 << 10))
        + _WEIGHT_BYTES * params
    )
    events = 1_000 * (config.updates / config.log_every + 4 * config.updates / config.validate_every)
    return Estimate(0 if config.max_seconds else least, most + events + (256 << 10))


def _finals_most(recipe: Recipe, params: int) -> float:
    """Return the disk that the finalists' trainings take at most, until the search ends."""
    count, taken = _finalists(recipe), float(_WEIGHT_BYTES * params * (_limits(recipe) * _finalists(recipe) + 1))
    for updates in recipe.search.finalist_updates if count else ():
        taken += _limits(recipe) * count * _kept(rung_config(recipe, updates), params, 0).most
        count = math.ceil(count / 2)
    return taken if count else 0.0


def _finalists(recipe: Recipe) -> int:
    """Return the largest possible number of finalists of a limit."""
    config = recipe.search
    return config.finalists + len(config.hand_scaled) if config.finalists else 0


def _training(recipe: Recipe, config: TrainConfig, vocabulary: int, workers: int, params: int, sure: int) -> Estimate:
    """Return the machine's own memory that `workers` training processes take."""
    if config.use_gpu:
        return Estimate(0, workers * (2 * _PROCESS_BYTES + _TRAINING_BYTES * params))
    space, length = recipe.space.build(), recipe.corpus.max_length
    cells = space.choices.get(CELLS, BY_NAME[CELLS].unnamed)
    left = max(
        need
        for largest in (space.replaced(decoder_cells=(cell,)).largest() for cell in cells)
        for need in (
            _activations(largest, max(config.max_tokens, length), length, vocabulary),
            _validation(largest, max(config.valid_max_tokens, length), length, vocabulary),
        )
    )
    return Estimate(sure, workers * (_PROCESS_BYTES + _COPIED_BYTES * params + left))


def _activations(architecture: Architecture, tokens: int, length: int, vocabulary: int) -> float:
    """Return the bytes that a pass over `tokens` tokens a side leaves behind for the gradients."""
    floats = sum(_layers(architecture, length)) + 3 * vocabulary
    return _SLACK * _WEIGHT_BYTES * floats * tokens


def _validation(architecture: Architecture, tokens: int, length: int, vocabulary: int) -> float:
    """Return the bytes that a pass without gradients needs at once: every encoder layer's output stays."""
    e = architecture.encoder
    floats = max(_layers(architecture, length)) + len(e.ffn_dims) * e.embed_dim + 3 * vocabulary
    return _SLACK * _WEIGHT_BYTES * floats * tokens


def _layers(architecture: Architecture, length: int) -> list[int]:
    """Return the floats a token of each layer.

    In an encoder layer 8 widths, 4 query-key-value widths, 2 hidden widths and two rows of attention a head; in a
    decoder layer 12, 8, 2, and the same number of rows for both attentions. An SSRU has 4 widths, and 3 in each pass of
    its scan, in the place of 4 query-key-value widths and its rows.
    """
    e, d, qkv = architecture.encoder, architecture.decoder, architecture.qkv_dim
    found = [
        8 * e.embed_dim + 4 * qkv + 2 * ffn + 2 * heads * length for ffn, heads in zip(e.ffn_dims, e.heads, strict=True)
    ]
    rows = zip(d.ffn_dims, d.self_heads, d.cross_heads, d.cross_layers, architecture.cells, strict=True)
    for ffn, own, cross, reach, cell in rows:
        ssru = (4 + 3 * math.ceil(math.log2(length))) * d.embed_dim
        before = ssru if cell == "ssru" else 4 * qkv + 2 * own * length
        found.append(12 * d.embed_dim + 4 * qkv + 2 * ffn + 2 * reach * cross * length + before)
    return found


def _trainings(recipe: Recipe) -> int:
    """Return the largest possible number of trainings of stage `retrain`."""
    config = recipe.retrain
    by_hand = len({*config.baselines} - {"largest", "random"})
    rivals = by_hand + (config.random_rivals if "random" in config.baselines else 0)
    models = (1 + rivals) * _limits(recipe) + 1
    return (models + (len(config.starts) - 1) * _limits(recipe)) * config.seeds


def _limits(recipe: Recipe) -> int:
    """Return the largest possible number of winners."""
    config, devices = recipe.search, max(1, len(recipe.latency.devices))
    limits = config.stated[1] or config.limits_fraction
    return sum(map(len, limits.values())) if isinstance(limits, dict) else devices * len(limits)


def _corpus_most(config: CorpusConfig) -> float:
    if config.source == "toy":
        held = config.toy.valid_pairs + config.toy.test_pairs
        return 2 * (config.toy.train_pairs + held) * (4 * _TOY_TOKENS + 8) + _text_bytes(config) + (1 << 20)
    if config.source == "fairseq":
        return data_bin_bytes(config) + (2 << 20) + 100 * config.vocab_size
    return 5 * _text_bytes(config) + (2 << 20) + 100 * config.vocab_size


def _text_bytes(config: CorpusConfig) -> float:
    """Return about how many bytes of text there are; of the toy pair those of validation and test."""
    if config.source == "toy" or config.files is None:
        return _TOY_TEXT_BYTES * (config.toy.valid_pairs + config.toy.test_pairs)
    return text_bytes(text_files(config))
