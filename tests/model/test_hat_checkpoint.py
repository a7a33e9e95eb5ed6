"""Checkpoints that HAT's code wrote load; code in them does not run."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from hat_oracle import Oracle

from hat_ray.errors import CheckpointError
from hat_ray.model.checkpoints.fairseq import load_hat_checkpoint, model_from_state


def test_a_hat_checkpoint_holds_the_weights_that_hat_wrote(shared: Path):
    folder = shared / "hat" / "oracle"
    checkpoint = load_hat_checkpoint(folder / "shared_hat_checkpoint.pt")
    reference = torch.load(folder / "shared_model_state_dict.pt", weights_only=True)
    for name, weight in checkpoint.model.weights().items():
        assert torch.equal(weight, reference[name]), name
    assert checkpoint.space.qkv_dim == 32
    assert checkpoint.space["decoder_depths"] == (3, 2, 1)
    assert checkpoint.architecture is None
    assert checkpoint.updates > 0


def test_a_subtransformer_checkpoint_names_its_architecture(oracle: Oracle):
    architecture = oracle.architecture("encL_decS_mix")
    e, d = architecture.encoder, architecture.decoder
    arguments = {
        **oracle.facts["args"],
        "encoder_embed_dim_subtransformer": e.embed_dim,
        "encoder_layer_num_subtransformer": e.depth,
        "encoder_ffn_embed_dim_all_subtransformer": list(e.ffn_dims),
        "encoder_self_attention_heads_all_subtransformer": list(e.heads),
        "decoder_embed_dim_subtransformer": d.embed_dim,
        "decoder_layer_num_subtransformer": d.depth,
        "decoder_ffn_embed_dim_all_subtransformer": list(d.ffn_dims),
        "decoder_self_attention_heads_all_subtransformer": list(d.self_heads),
        "decoder_ende_attention_heads_all_subtransformer": list(d.cross_heads),
        "decoder_arbitrary_ende_attn_all_subtransformer": [2, 1, -1],
        "encoder_ffn_embed_dim_choice": [4096, 96],  # the code's defaults, larger than the weights
    }
    state = dict(oracle.model.state_dict())
    checkpoint = model_from_state(state, arguments, "sub")
    assert checkpoint.architecture == architecture
    assert checkpoint.space.contains(checkpoint.space.largest())


class Attack:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_checkpoint_is_refused_and_its_code_does_not_run(tmp_path: Path, zipped: bool):
    marker, path = tmp_path / "attacked", tmp_path / "evil.pt"
    content = {"args": Attack(str(marker)), "model": {}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="not a safe checkpoint and was not loaded") as refusal:
        load_hat_checkpoint(path)
    assert "\n" not in str(refusal.value)
    assert not marker.exists()


def test_a_plain_pickle_is_refused(tmp_path: Path):
    marker, path = tmp_path / "attacked", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(Attack(str(marker))))
    with pytest.raises(CheckpointError, match="not a safe checkpoint"):
        load_hat_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as refusal:
        load_hat_checkpoint(path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_hat_checkpoint(tmp_path / "missing.pt")


def test_other_tensors_are_not_a_hat_checkpoint(tmp_path: Path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="lacks `args` or `model`"):
        load_hat_checkpoint(tmp_path / "x.pt")
