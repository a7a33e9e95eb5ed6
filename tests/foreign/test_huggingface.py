"""A folder of MarianMTModel computes what `transformers` computes."""

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

from hat_ray.corpus.vocabulary import MISSING
from hat_ray.errors import CheckpointError
from hat_ray.foreign.huggingface.read import read_huggingface
from hat_ray.foreign.open import open_foreign
from hat_ray.model.beam import beam_search

transformers = pytest.importorskip("transformers", reason="compares with transformers: pip install transformers")

V, PAD, LENGTH = 37, 36, 12
VARIANTS: dict[str, dict[str, Any]] = {
    "OPUS-MT": {"scale_embedding": True, "activation_function": "swish"},
    "not scaled, gelu": {"activation_function": "gelu", "encoder_layers": 1, "decoder_layers": 3},
    "vocabularies apart": {
        "share_encoder_decoder_embeddings": False,
        "decoder_vocab_size": V + 4,
        "activation_function": "relu",
        "decoder_attention_heads": 2,
    },
    "nothing tied": {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False, "decoder_ffn_dim": 40},
    "started by its end": {"decoder_start_token_id": 0, "scale_embedding": True},
}


def made(**changes: Any) -> Any:
    """Return a MarianMTModel with weights that are all random, as after some training: its padding's row too."""
    settings: dict[str, Any] = {
        **{"vocab_size": V, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 64},
        **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24},
        **{"pad_token_id": PAD, "eos_token_id": 0, "decoder_start_token_id": PAD, "forced_eos_token_id": 0},
        **changes,
    }
    torch.manual_seed(3)
    model = transformers.MarianMTModel(transformers.MarianConfig(**settings)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
        model.final_logits_bias.normal_(std=0.5)
    return model


def write(model: Any, folder: Path, safe: bool = True) -> Path:
    """Write a folder as `save_pretrained` does, or as it did before safetensors."""
    model.save_pretrained(folder)
    if not safe:
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def order(size: int) -> list[int]:
    """Return theirs of each of our ids: `</s>` is 0, the padding is known, `<unk>` is not."""
    return [MISSING, PAD, 0, MISSING, *(one for one in range(1, size) if one != PAD)]


def batch(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sources of several lengths, padded on the right, and what follows the start of targets."""
    draw = torch.Generator().manual_seed(5)
    source = torch.randint(1, PAD, (5, LENGTH), generator=draw)
    for row in range(5):
        source[row, LENGTH - 1 - 2 * row] = 0
        source[row, LENGTH - 2 * row :] = PAD
    return source, torch.randint(1, PAD, (5, 9), generator=draw)


def ours(tokens: torch.Tensor, size: int) -> torch.Tensor:
    return torch.tensor([[order(size).index(int(token)) for token in row] for row in tokens])


def assert_same_logits(theirs: Any, folder: Path) -> None:
    opened = open_foreign(folder)
    assert opened.kind == "huggingface"
    source, target = batch(V)
    size = theirs.config.decoder_vocab_size
    with torch.inference_mode():
        start = torch.full((5, 1), theirs.config.decoder_start_token_id)
        expected = theirs(
            input_ids=source, attention_mask=source != PAD, decoder_input_ids=torch.cat([start, target], 1)
        ).logits
        fed = torch.cat([torch.full((5, 1), 2), ours(target, size)], 1)
        found = opened.model(ours(source, V), fed)
    kept = [place for place, one in enumerate(order(size)) if one != MISSING]
    assert float(expected.std()) > 0.5, "all logits are alike: nothing is compared"
    torch.testing.assert_close(found[..., kept], expected[..., [order(size)[one] for one in kept]], rtol=0, atol=1e-5)
    assert float(found.softmax(-1)[..., [0, 3]].max()) < 1e-30


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_logits_are_those_of_transformers(tmp_path: Path, variant: str, safe: bool) -> None:
    theirs = made(**VARIANTS[variant])
    assert_same_logits(theirs, write(theirs, tmp_path / "model", safe))


def trained() -> Any:
    """Return a model that learned a little of copying a source in reverse."""
    model = made(scale_embedding=True, activation_function="swish", d_model=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    draw = torch.Generator().manual_seed(1)
    for _ in range(60):
        words = torch.randint(1, PAD, (16, 5), generator=draw)
        ends = torch.zeros(16, 1, dtype=torch.long)
        loss = model(input_ids=torch.cat([words, ends], 1), labels=torch.cat([words.flip(1), ends], 1)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def assert_same_translations(theirs: Any, folder: Path) -> set[tuple[int, ...]]:
    """Return the translations, which both agree on."""
    opened, (source, _) = read_huggingface(write(theirs, folder)), batch(V)
    expected = theirs.generate(
        **{"input_ids": source, "attention_mask": source != PAD, "num_beams": 1, "do_sample": False},
        **{"max_new_tokens": LENGTH + 1, "min_new_tokens": 1, "bad_words_ids": [[PAD]]},
    )
    found = beam_search(opened.model, ours(source, V), beam=1, max_length=LENGTH, min_length=1)
    size = theirs.config.decoder_vocab_size
    for row, [best] in zip(expected.tolist(), found, strict=True):
        words = row[1:]
        end = words.index(0) if 0 in words else len(words)
        assert [order(size)[token] for token in best.tokens[:-1]] == words[:end]
    return {best.tokens for [best] in found}


@pytest.mark.parametrize("variant", VARIANTS)
def test_greedy_translations_are_those_of_transformers(tmp_path: Path, variant: str) -> None:
    assert assert_same_translations(made(**VARIANTS[variant]), tmp_path / "model")


def test_a_trained_model_has_the_logits_and_translations_of_transformers(tmp_path: Path) -> None:
    theirs = trained()
    assert float(theirs.model.shared.weight[PAD].detach().abs().max()) > 1e-3, "the start's row is no longer zero"
    assert len(assert_same_translations(theirs, tmp_path / "model")) == 5
    assert_same_logits(theirs, tmp_path / "model")


def write_vocabulary(folder: Path, apart: bool) -> int:
    """Write what a MarianTokenizer reads; return the entries of its list, the padding's the last."""
    lines = [
        "the cat saw a dog",
        "a dog and the cat ran",
        "die Katze sah einen Hund",
        "ein Hund und die Katze liefen",
    ] * 5
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            **{"sentence_iterator": iter(lines[:2] * 9 if apart and side == "source" else lines)},
            **{"model_prefix": str(folder / side), "vocab_size": 34, "model_type": "bpe", "minloglevel": 2},
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    pieces = []
    for side in ("source", "target"):
        processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
        pieces += [processor.id_to_piece(index) for index in range(3, len(processor))]
    names = ["</s>", "<unk>", *dict.fromkeys(pieces), ">>deu<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: index for index, name in enumerate(names)}))
    return len(names)


@pytest.mark.parametrize("apart", [False, True])
def test_text_is_cut_and_joined_as_transformers_does(tmp_path: Path, apart: bool) -> None:
    size = write_vocabulary(tmp_path, apart)
    settings = {"vocab_size": size, "pad_token_id": size - 1, "decoder_start_token_id": size - 1}
    write(made(**settings, scale_embedding=True), tmp_path)
    tokenizer = transformers.MarianTokenizer.from_pretrained(tmp_path)
    opened = open_foreign(tmp_path)
    vocabularies = opened.vocabularies
    assert opened.notes == ()
    for line in ("the cat ran", "a dog saw zebras", ">>deu<< the dog", "die Katze", "</s> <pad>", ""):
        found = [vocabularies.source.order[token] for token in vocabularies.source.encode(line)]
        if "<" not in line.replace(">>deu<<", ""):  # text that looks like a special token is text here
            assert found == tokenizer(line).input_ids, line
        assert opened.model.source_vocab_size == size + 1
    for line in ("die Katze sah einen Hund", "ein Hund"):
        tokens = tokenizer(text_target=line).input_ids
        assert [vocabularies.target.order[token] for token in vocabularies.target.encode(line)] == tokens
        assert vocabularies.target.decode(vocabularies.target.encode(line)) == line
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"pad_token_id": 5}))
    with pytest.raises(CheckpointError, match="as padding and end, the source vocabulary"):
        open_foreign(tmp_path)


def test_positions_beside_the_weights_must_be_the_sinusoids(tmp_path: Path) -> None:
    model = made()
    folder = write(model, tmp_path / "model", safe=False)
    state = model.state_dict()
    assert "model.encoder.embed_positions.weight" in state
    read_huggingface(folder)
    state["model.decoder.embed_positions.weight"] = state["model.decoder.embed_positions.weight"].flip(0)
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"model\.decoder\.embed_positions\.weight must be the sinusoids"):
        read_huggingface(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "bart"}, "of type 'bart'"),
        ({"model_type": None}, "of type None"),
        ({"normalize_before": True}, "normalize_before is True"),
        ({"static_position_embeddings": False}, "static_position_embeddings is False"),
        ({"activation_function": "gelu_new"}, "activation_function must be one of"),
        ({"activation_function": ["relu"]}, "activation_function must be one of"),
        ({"encoder_layers": 3}, r"lacks the weight model\.encoder\.layers\.2"),
        ({"encoder_layers": 1}, r"has weights that hat-ray's Transformer lacks, such as model\.encoder\.layers\.1"),
        ({"encoder_layers": 0}, "encoder_layers must be a whole number from 1"),
        ({"d_model": 10**12}, "d_model must be a whole number from 1 to"),
        ({"encoder_layers": 10**9}, "encoder_layers must be a whole number from 1 to"),
        ({"d_model": 32}, "has shape"),
        ({"encoder_attention_heads": 3}, "heads must divide"),
        ({"vocab_size": V + 1}, "has shape"),
        ({"decoder_start_token_id": V}, "must be entries of the vocabulary"),
        ({"pad_token_id": None}, "pad_token_id must be a whole number"),
        ({"eos_token_id": PAD}, "must be entries of the vocabulary"),
        ({"dropout": 2}, "dropout must be from 0"),
        ({"max_position_embeddings": 10**9}, "max_position_embeddings must be a whole number from 8"),
        ({"max_position_embeddings": 7}, "max_position_embeddings must be a whole number from 8"),
    ],
)
def test_what_hat_ray_cannot_compute_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = write(made(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=words) as caught:
        open_foreign(folder)
    assert "\n" not in str(caught.value)


def test_damaged_and_incomplete_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    folder = write(made(), tmp_path / "model")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    weights = whole["model.safetensors"]
    for name, content, words in (
        ("config.json", b"[1]", "must hold keys and values"),
        ("config.json", b"{" * 5000, "is no JSON"),
        ("config.json", b"\xff\x00", "config.json"),
        ("model.safetensors", weights[: len(weights) // 2], "is damaged"),
        ("model.safetensors", (1 << 40).to_bytes(8, "little") + weights[8:], "is damaged"),
        ("model.safetensors", None, "holds no model.safetensors and no pytorch_model.bin"),
    ):
        for other, bytes_ in whole.items():
            (folder / other).write_bytes(bytes_)
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=words) as caught:
            open_foreign(folder)
        assert "\n" not in str(caught.value), name
