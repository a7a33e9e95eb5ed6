"""Marian models of plain numbers, as Marian's code would write them: no weight is drawn, so that they never change."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

D, F, DECODER_F, HEADS, V, DEPTHS = 16, 24, 32, 4, 13, (2, 1)
WORDS = ("</s>", "<unk>", *(f"w{index}" for index in range(2, V)))
PAIRS = (("w2 w3 w4 w5", "w5 w4"), ("w6 w7", "w3 w3 w7 w9 w10"), ("w8", "w11"), ("w2 w2 nothing w12", "w6 strange w6"))
"""Sources and targets; two of the words stand in no vocabulary."""

SMALL = "v1.12.0, small"
"""Models of this version have norms and sub-layers so small that what a norm adds to the variance counts."""
VARIANTS: dict[str, dict[str, Any]] = {
    "small norms": {"version": SMALL, "tied-embeddings-all": True},
    "as OPUS-MT": {"transformer-ffn-activation": "swish", "tied-embeddings-all": True},
    "pre-norm, target tied": {
        "transformer-preprocess": "n",
        "transformer-postprocess": "da",
        "transformer-postprocess-top": "n",
        "transformer-ffn-activation": "relu",
        "tied-embeddings": True,
    },
    "nothing tied, no bias": {"transformer-ffn-activation": "gelu", "output-omit-bias": True},
    "SSRU": {"transformer-decoder-autoreg": "rnn", "dec-cell": "ssru", "tied-embeddings-all": True},
    "SSRU, pre-norm": {
        **{"transformer-decoder-autoreg": "rnn", "dec-cell": "ssru", "tied-embeddings": True},
        **{"transformer-preprocess": "n", "transformer-postprocess": "da", "transformer-postprocess-top": "n"},
    },
    "source tied, no final norm": {
        "transformer-preprocess": "n",
        "transformer-postprocess": "a",
        "transformer-ffn-activation": "relu",
        "tied-embeddings-src": True,
    },
}


def settings(**changes: Any) -> dict[str, Any]:
    """Return the settings that Marian stores; a few that it wants to find are of other kinds of networks."""
    return {
        **{"type": "transformer", "version": "v1.12.42", "input-types": [], "skip": False, "lemma-dim-emb": 0},
        **{"dim-emb": D, "dim-vocabs": [V, V], "enc-depth": DEPTHS[0], "dec-depth": DEPTHS[1]},
        **{"transformer-heads": HEADS, "transformer-dim-ffn": F, "transformer-decoder-dim-ffn": DECODER_F},
        **{"transformer-ffn-depth": 2, "transformer-decoder-ffn-depth": 0, "transformer-ffn-activation": "swish"},
        **{"transformer-preprocess": "", "transformer-postprocess": "dan", "transformer-postprocess-emb": "d"},
        **{"transformer-postprocess-top": "", "transformer-decoder-autoreg": "self-attention"},
        **{"transformer-no-projection": False, "transformer-tied-layers": [], "output-omit-bias": False},
        **{"transformer-train-position-embeddings": False, "layer-normalization": False},
        **{"tied-embeddings": False, "tied-embeddings-src": False, "tied-embeddings-all": False},
        **{"transformer-dim-aan": 2048, "transformer-aan-depth": 2, "transformer-aan-activation": "swish"},
        **{"transformer-aan-nogate": False},
        **changes,
    }


def weights(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return every weight that Marian makes for the settings."""
    made: dict[str, np.ndarray] = {}

    def add(name: str, rows: int, columns: int, size: float, around: float = 0.0) -> None:
        places = np.arange(rows * columns, dtype=np.float64) * (1.7 + 0.37 * len(made))
        made[name] = (around + size * np.sin(places + len(made))).astype(np.float32).reshape(rows, columns)

    def norm(name: str) -> None:
        suffix = "_pre" if config["transformer-preprocess"] and "_top" not in name else ""
        add(f"{name}_ln_scale{suffix}", 1, D, 0.3, 1.0)
        add(f"{name}_ln_bias{suffix}", 1, D, 0.3)

    is_recurrent = config["transformer-decoder-autoreg"] == "rnn"
    if config["tied-embeddings-all"] or config["tied-embeddings-src"]:
        add("Wemb", V, D, 0.3)
    else:
        add("encoder_Wemb", V, D, 0.3)
        add("decoder_Wemb", V, D, 0.3)
    for side, depth, blocks, ffn in (
        ("encoder", DEPTHS[0], ("self",), F),
        ("decoder", DEPTHS[1], ("context",) if is_recurrent else ("self", "context"), DECODER_F),
    ):
        for layer in (f"{side}_l{index}" for index in range(1, depth + 1)):
            if is_recurrent and side == "decoder":
                add(f"{layer}_rnn_W", D, D, 0.6)
                add(f"{layer}_rnn_Wf", D, D, 0.6)
                add(f"{layer}_rnn_bf", 1, D, 0.4)
                norm(f"{layer}_rnn" if config["transformer-preprocess"] else f"{layer}_rnn_ffn")
            for block in (f"{layer}_{one}" for one in blocks):
                for part in "qkvo":
                    add(f"{block}_W{part}", D, D, 0.6)
                    add(f"{block}_b{part}", 1, D, 0.4)
                norm(f"{block}_Wo")
            for name, rows, columns in ((f"{layer}_ffn_W1", D, ffn), (f"{layer}_ffn_W2", ffn, D)):
                add(name, rows, columns, 0.6)
                add(name.replace("_W", "_b"), 1, columns, 0.4)
            norm(f"{layer}_ffn_ffn")
        if config["transformer-postprocess-top"]:
            norm(f"{side}_top")
    if not (config["tied-embeddings-all"] or config["tied-embeddings"]):
        add("decoder_ff_logit_out_Wt", V, D, 0.4)
    if config["version"] == SMALL:
        parts = ("ln_scale", "ln_bias", "_Wo", "_bo", "_W2", "_b2")
        made = {name: one * np.float32(1e-3) if name.endswith(parts) else one for name, one in made.items()}
        made["Wemb"] = made["Wemb"] * np.float32(1e3)
    if not config["output-omit-bias"]:
        add("decoder_ff_logit_out_b", 1, V, 1.0)
    return made


def stored(config: dict[str, Any]) -> np.ndarray:
    """Return settings as the array that holds them."""
    return np.frombuffer(yaml.safe_dump(config).encode() + b"\0", dtype=np.int8)


def write(path: Path, arrays: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write a model, some of its settings changed or all of its arrays given."""
    config = settings(**changes)
    if arrays is None:
        arrays = {**weights(config), "special:model.yml": stored(config)}
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def ids(line: str) -> list[int]:
    """Return Marian's ids of a line's words."""
    return [WORDS.index(word) if word in WORDS else 1 for word in line.split()]


if __name__ == "__main__":  # with pymarian's Python: prints what Marian makes of these models
    import json
    import subprocess
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "vocab.yml").write_text(yaml.safe_dump({word: index for index, word in enumerate(WORDS)}))
        for side in (0, 1):
            (folder / f"text{side}").write_text("".join(f"{pair[side]}\n" for pair in PAIRS))
        found = {}
        for variant, changes in VARIANTS.items():
            model = write(folder / "model.npz", **changes)
            command = [f"{Path(sys.executable).parent}/pymarian", "score", "-m", str(model), "--quiet", "-w", "100"]
            command += ["-v", *[str(folder / "vocab.yml")] * 2, "-t", *[str(folder / f"text{side}") for side in (0, 1)]]
            command += ["--cpu-threads", "1", "--word-scores", "--max-length", "100"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
            assert done.returncode == 0, done.stderr
            found[variant] = [[float(one) for one in line.split("=")[1].split()] for line in done.stdout.splitlines()]
        print(json.dumps(found, indent=1))
