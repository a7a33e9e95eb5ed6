"""`hat-ray convert --format marian-config`: Marian trains the shape that the file describes."""

import json
import random
import subprocess
from pathlib import Path

import pytest
import yaml

from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.corpus.vocabulary.subwords import MODEL_FILE
from hat_ray.errors import CheckpointError
from hat_ray.foreign.marian.config import config_text
from hat_ray.foreign.marian.settings import read_settings
from hat_ray.foreign.open import open_foreign
from hat_ray.model.config import ModelConfig
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.search_space import SearchSpace
from tests.command import hat_ray
from tests.foreign.test_pymarian import lines, pymarian, translated

STUDENTS = SearchSpace(
    "students",
    qkv_dim=32,
    alike_layers=True,
    encoder_embed_dims=(32,),
    encoder_depths=(4, 3, 2, 1),
    encoder_ffn_dims=(96, 64, 48),
    encoder_heads=(4,),
    decoder_embed_dims=(32,),
    decoder_depths=(3, 2, 1),
    decoder_ffn_dims=(96, 64, 48),
    decoder_self_heads=(4,),
    decoder_cross_heads=(4,),
    decoder_cross_layers=(1,),
    decoder_cells=("attention", "ssru"),
)
NETWORKS = (
    ModelConfig(),
    ModelConfig(normalize_before=True, activation="swish"),
    ModelConfig(normalize_before=True, encoder_final_norm=False, decoder_final_norm=False, share_embeddings="decoder"),
    ModelConfig(activation="gelu", share_embeddings="none"),
)


@pytest.mark.parametrize("network", NETWORKS)
def test_it_describes_the_architecture_and_the_network(network: ModelConfig) -> None:
    draw = random.Random(1)
    for one in {STUDENTS.sample(draw) for _ in range(60)}:
        text = config_text(one, network, "here")
        assert text.startswith(f"# {one.id}: {one}\n")
        values = yaml.safe_load(text)
        assert ("transformer-decoder-dim-ffn" in values) == (one.encoder.ffn_dims[0] != one.decoder.ffn_dims[0])
        found = read_settings({**values, "dim-vocabs": [100, 100]}, "there")
        assert found.architecture == one
        for name in ("share_embeddings", "activation"):
            assert getattr(found.config, name) == getattr(network, name), name
        assert found.config.normalize_before == (network.normalize_before and "ssru" in one.cells)
        if found.config.normalize_before:
            assert found.config.encoder_final_norm == network.encoder_final_norm


def shape(**changes: tuple[int, ...]) -> Architecture:
    decoder = {"ffn_dims": (64,), "self_heads": (4,), "cross_heads": (4,), "cross_layers": (1,), **changes}
    return Architecture(EncoderShape(32, (64, 64), (4, 4)), DecoderShape(32, **decoder), 32)


@pytest.mark.parametrize(
    ("architecture", "network", "why"),
    [
        (shape(cross_layers=(2,)), ModelConfig(), "must attend to the last encoder layer alone, got 2"),
        (shape(cross_heads=(2,)), ModelConfig(), "must have one number of heads, got 2, 4"),
        (
            shape(ffn_dims=(64, 32), self_heads=(4, 4), cross_heads=(4, 4), cross_layers=(1, 1)),
            ModelConfig(),
            r"decoder layers must have one feed-forward width, got \(64, 32\)",
        ),
        (shape(), ModelConfig(activation="gelu_tanh"), "model.activation must be one of relu, swish, gelu"),
        (
            shape(),
            ModelConfig(normalize_before=True, decoder_final_norm=False),
            "both stacks or neither must end in a norm",
        ),
    ],
)
def test_what_marian_lacks_is_refused_by_its_rule(architecture: Architecture, network: ModelConfig, why: str) -> None:
    with pytest.raises(CheckpointError, match=f"Marian cannot train {architecture.id} of here: .*{why}"):
        config_text(architecture, network, "here")


def test_the_command_prints_writes_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(shape().to_json())
    command = ("convert", "one.json", "--format", "marian-config")
    printed = hat_ray(*command, cwd=tmp_path)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout == config_text(shape(), ModelConfig(), "one.json")
    assert hat_ray(*command, "--out", "student.yml", cwd=tmp_path).returncode == 0
    assert (tmp_path / "student.yml").read_text() == printed.stdout
    assert json.loads(hat_ray(*command, "--json", cwd=tmp_path).stdout) == yaml.safe_load(printed.stdout)
    again = hat_ray(*command, "--out", "student.yml", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].endswith("student.yml exists: name another")
    named = hat_ray(*command, "--model", "abc", cwd=tmp_path)
    assert named.returncode == 2
    assert "holds one model: leave --model out" in named.stderr
    weights = hat_ray("convert", "one.json", cwd=tmp_path)
    assert weights.returncode == 2
    assert weights.stderr.splitlines()[-1].endswith(
        "--out must name the folder for Marian's files, got none: add --out FOLDER"
    )


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_marian_trains_it_and_its_model_comes_back_with_that_shape(tmp_path: Path, network: ModelConfig) -> None:
    python, draw = pymarian(), random.Random(5)
    vocabulary = learn_vocabulary([*lines(300, 7), *map(translated, lines(300, 8))], 60, byte_fallback=False)
    (tmp_path / "vocab.spm").write_bytes(vocabulary.files()[MODEL_FILE])
    for side, text in (("src", lines(40, 1)), ("trg", map(translated, lines(40, 1)))):
        (tmp_path / side).write_text("".join(f"{line}\n" for line in text))
    code = "import sys, _pymarian; sys.exit(_pymarian.main(sys.argv[1:]))"
    for number, one in enumerate((STUDENTS.largest(), STUDENTS.sample(draw), STUDENTS.smallest())):
        (tmp_path / f"{number}.yml").write_text(config_text(one, network, "here"))
        command = [python, "-c", code, "train", "-c", f"{number}.yml", "--train-sets", "src", "trg"]
        command += [
            "--vocabs",
            "vocab.spm",
            "vocab.spm",
            "--model",
            f"{number}.npz",
            "--after-batches",
            "2",
            "-w",
            "200",
        ]
        command += ["--mini-batch", "8", "--cpu-threads", "1", "--learn-rate", "0.0003", "--quiet"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert open_foreign(tmp_path / f"{number}.npz").model.holds == one
