"""Keys of HAT's YAML files: those that a setting takes as they are, and those that none takes, with the reason.

Keys that several settings share, or that need others to be read, stand in `training.py` and `hat_recipe.py`.
"""

from collections.abc import Mapping

EVOLUTION = ("evo-iter", "population-size", "parent-size", "mutation-prob", "latency-constraint")
"""A file of the search names one of these."""
PREDICTOR = ("feature-norm", "hidden-dim", "hidden-layer-num", "train-steps")
"""A file of the latency predictor names one of these, and no key of the search."""
DATASET = ("lat-dataset-size", "latgpu", "latcpu", "latiter")
"""A file of a latency data set names one of these."""

DIRECT: Mapping[str, str] = {
    "dropout": "model.dropout",
    "attention-dropout": "model.attention_dropout",
    "activation-dropout": "model.activation_dropout",
    "relu-dropout": "model.activation_dropout",
    "seed": "seed",
    "train-subset": "corpus.fairseq.train_subset",
    "valid-subset": "corpus.fairseq.valid_subset",
    "gen-subset": "corpus.fairseq.test_subset",
    "source-lang": "corpus.source_language",
    "target-lang": "corpus.target_language",
    "beam": "evaluate.beam",
    "lenpen": "evaluate.length_penalty",
    "max-len-a": "evaluate.max_length_factor",
    "max-len-b": "evaluate.max_length_extra",
}
"""Keys that mean the same in every file."""

OF_TRAINING: Mapping[str, str] = {
    "max-update": "updates",
    "max-tokens": "max_tokens",
    "max-tokens-valid": "valid_max_tokens",
    "adam-eps": "adam_eps",
    "weight-decay": "weight_decay",
    "clip-norm": "clip_norm",
    "warmup-updates": "warmup_updates",
    "keep-last-epochs": "keep_last",
}
"""Keys of the section `supernet` or `retrain`, by the file."""

FAIRSEQ_DEFAULTS: Mapping[str, object] = {"clip-norm": 25, "adam-betas": "(0.9, 0.999)"}
"""Defaults of HAT's fairseq that differ from hat-ray's: a file without these keys means them."""

SUPER_SIZES = (
    *("encoder-embed-dim", "decoder-embed-dim", "encoder-ffn-embed-dim", "decoder-ffn-embed-dim"),
    *("encoder-layers", "decoder-layers", "encoder-attention-heads", "decoder-attention-heads"),
)

_NETWORK = (
    "no network: a physical prior with XGBoost is fitted to the latency table (predictor.rounds, predictor.depth)"
)
_MACHINE = "where training runs is the machine's: set supernet.workers, supernet.use_gpu and supernet.precision"
_EPOCHS = "in epochs, and hat-ray counts updates: set supernet.validate_every and supernet.checkpoint_every"
_FOLDERS = "results stand in the run folder"
_LOGS = "progress is shown and logged without it"
_ONE_PERIOD = "hat-ray's cosine has one period, which ends with the updates"
_LENGTHS = "batches are cut by tokens alone"

REASONS: Mapping[str, str] = {
    **dict.fromkeys(("feature-norm", "lat-norm", "feature-dim", "hidden-dim", "hidden-layer-num"), _NETWORK),
    **dict.fromkeys(("train-steps", "bsz"), _NETWORK),
    "ckpt-path": f"{_NETWORK}; it is fitted anew in a second",
    "lat-dataset-path": "the rows of HAT's CSV come in by `hat-ray latency import FILE`",
    "latsilent": _LOGS,
    "restore-file": "trained weights come in by `hat-ray import super FILE`",
    "write-config-path": "winners stand in the run folder; `hat-ray search show RUN` lists them",
    "valid-cnt-max": "every validation sentence is scored: the loss that HAT's search uses by default",
    **dict.fromkeys(("ddp-backend", "distributed-backend", "distributed-init-method", "distributed-port"), _MACHINE),
    **dict.fromkeys(
        ("distributed-rank", "distributed-no-spawn", "device-id", "bucket-cap-mb", "num-workers"), _MACHINE
    ),
    **dict.fromkeys(("fix-batches-to-gpus", "find-unused-parameters", "cpu", "memory-efficient-fp16"), _MACHINE),
    **dict.fromkeys(("fp16-init-scale", "fp16-scale-window", "fp16-scale-tolerance", "min-loss-scale"), _MACHINE),
    **dict.fromkeys(("save-interval", "validate-interval", "max-epoch"), _EPOCHS),
    **dict.fromkeys(("save-interval-updates", "keep-interval-updates"), "set supernet.checkpoint_every"),
    **dict.fromkeys(("save-dir", "results-path", "path", "no-save", "no-epoch-checkpoints"), _FOLDERS),
    **dict.fromkeys(("log-format", "log-interval", "no-progress-bar", "tensorboard-logdir", "quiet"), _LOGS),
    **dict.fromkeys(("lr-period-updates", "t-mult"), _ONE_PERIOD),
    "lr-shrink": _ONE_PERIOD,
    **dict.fromkeys(("max-sentences", "batch-size", "max-sentences-valid"), _LENGTHS),
    "required-batch-size-multiple": _LENGTHS,
    "min-lr": "training ends with the updates, at whatever learning rate",
    "train-subtransformer": "the file's other keys are those of the section retrain",
    "arch": "sizes and choices stand in the space",
    "task": "translation is the only task",
    "optimizer": "Adam with decoupled weight decay is the only optimiser, as in HAT",
    "left-pad-source": "the source is padded on the left, as in HAT",
    "left-pad-target": "the target is padded on the right, as in HAT",
    "remove-bpe": "the vocabulary joins sub-words when it decodes",
    "sacrebleu": "sacreBLEU is always computed; evaluate.metric multi-bleu adds the BLEU of HAT's papers",
    "dataset-impl": "the format follows from the files",
    "lazy-load": "tokens are always mapped from disk",
    "raw-text": "the format follows from the files",
    "user-dir": "no code of others is loaded",
    "pdb": "a fault keeps its traceback",
    "configs": "the file itself",
}
"""Keys that no setting takes, and why."""
