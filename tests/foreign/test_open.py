"""A trained model is recognised by its content, whatever its name."""

from pathlib import Path

import pytest
import torch

from hat_ray.errors import CheckpointError
from hat_ray.foreign.open import open_foreign
from hat_ray.model.checkpoints.native import save_model
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.model.supertransformer import SuperTransformer
from hat_ray.storage.folder import Folder
from tests.model.hat_files import SPACE, VOCAB, content

SUPER = SuperTransformer(SPACE, VOCAB, ModelConfig(), seed=5)
SUB = SUPER.extract(SPACE.smallest())


def logits(model: SuperTransformer | SubTransformer) -> torch.Tensor:
    source, target = torch.tensor([[4, 9, 5, 2]]), torch.tensor([[2, 7, 8]])
    if isinstance(model, SuperTransformer):
        return model.eval()(source, target, SPACE.smallest()).detach()
    return model.eval()(source, target).detach()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["checkpoint_best.pt", "model.bin", "no_extension"])
def test_a_hat_checkpoint_is_one_by_any_name(tmp_path: Path, name: str, legacy: bool):
    torch.save(content(), tmp_path / name, _use_new_zipfile_serialization=not legacy)
    opened = open_foreign(tmp_path / name)
    assert opened.kind == "fairseq"
    assert opened.space is not None
    assert opened.space.largest() == SPACE.largest()
    assert opened.notes == ("trained for 7 updates",)
    assert not opened.model.training


def test_a_checkpoint_of_one_subtransformer_opens_as_that_model_alone(tmp_path: Path):
    one = SPACE.smallest()
    arguments = {
        "encoder_embed_dim_subtransformer": one.encoder.embed_dim,
        "encoder_layer_num_subtransformer": one.encoder.depth,
        "encoder_ffn_embed_dim_all_subtransformer": list(one.encoder.ffn_dims),
        "encoder_self_attention_heads_all_subtransformer": list(one.encoder.heads),
        "decoder_embed_dim_subtransformer": one.decoder.embed_dim,
        "decoder_layer_num_subtransformer": one.decoder.depth,
        "decoder_ffn_embed_dim_all_subtransformer": list(one.decoder.ffn_dims),
        "decoder_self_attention_heads_all_subtransformer": list(one.decoder.self_heads),
        "decoder_ende_attention_heads_all_subtransformer": list(one.decoder.cross_heads),
        "decoder_arbitrary_ende_attn_all_subtransformer": [-1],
    }
    written = content(**arguments)
    torch.save(written, tmp_path / "sub.pt")
    opened = open_foreign(tmp_path / "sub.pt")
    assert opened.space is None
    assert isinstance(opened.model, SubTransformer)
    assert opened.model.architecture == one
    rows = one.encoder.embed_dim
    kept = opened.model.encoder.embed_tokens.weight
    assert torch.equal(kept, written["model"]["encoder.embed_tokens.weight"][:, :rows])


@pytest.mark.parametrize("model", [SUPER, SUB], ids=["super", "sub"])
def test_a_hat_ray_model_opens_by_its_folder_and_by_its_file(tmp_path: Path, model: SuperTransformer | SubTransformer):
    save_model(Folder.at(tmp_path), "any", model)
    for place in (tmp_path, tmp_path / "any.safetensors"):
        opened = open_foreign(place)
        assert opened.kind == "hat-ray"
        assert type(opened.model) is type(model)
        assert torch.equal(logits(opened.model), logits(model))


def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.pt").write_text("encoder: 6\n")
    (tmp_path / "page.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "lone.safetensors").write_bytes((8).to_bytes(8, "little") + b'{"a":[]}')
    for model in ("one", "two"):
        save_model(Folder.at(tmp_path / "both"), model, SUB)
    for name, words in (
        ("empty", "holds no model"),
        ("text.pt", "is no model"),
        ("page.pdf", "is a PDF file"),
        ("missing.pt", "does not exist"),
        ("lone.safetensors", "no model lone in"),
        ("both", "holds the models one, two"),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            open_foreign(tmp_path / name)
        assert "\n" not in str(caught.value), name
