"""Marian's `.npz`: what is read computes what Marian computes, and what is written is what was read."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hat_ray.errors import CheckpointError
from hat_ray.foreign.marian.read import read_marian, usual_order
from hat_ray.foreign.marian.settings import read_settings, settings_of
from hat_ray.foreign.marian.write import marian_npz
from hat_ray.foreign.open import open_foreign
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from tests.foreign.marian_files import PAIRS, VARIANTS, WORDS, V, ids, settings, stored, weights, write

SCORES = json.loads((Path(__file__).parent / "marian_scores.json").read_text(encoding="utf-8"))
"""What pymarian 1.12.42 prints of these models: `python tests/foreign/marian_files.py` with its Python."""

ORDERS = usual_order(V), usual_order(V)


def ours(line: str) -> list[int]:
    """Return our ids of a line with its end: Marian's `</s>` 0 and `<unk>` 1 are 2 and 3, all others follow."""
    return [*(one + 2 for one in ids(line)), 2]


@torch.inference_mode()
def scores(model: SubTransformer, source: str, target: str) -> torch.Tensor:
    wanted = torch.tensor([ours(target)])
    fed = torch.cat([torch.tensor([[2]]), wanted[:, :-1]], dim=1)
    logs = model(torch.tensor([ours(source)]), fed).log_softmax(-1)
    return logs.gather(2, wanted[:, :, None]).flatten()


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_words_probability_is_that_of_marian(tmp_path: Path, variant: str) -> None:
    opened = read_marian(write(tmp_path / "model.npz", **VARIANTS[variant]))
    assert opened.kind == "marian"
    for (source, target), expected in zip(PAIRS, SCORES[variant], strict=True):
        found = scores(opened.model, source, target)
        torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=2e-5)  # printed with five digits


@pytest.mark.parametrize(
    ("version", "activation"),
    [
        *(("v1.9.56 3a4ff1b 2020", "gelu_sigmoid"), ("v1.12.2", "gelu_sigmoid"), ("1.8.0", "gelu_sigmoid")),
        *(("v1.12.3", "gelu"), ("v1.13.0", "gelu"), ("v2.0.1", "gelu"), (7, "gelu"), ("", "gelu")),
    ],
)
def test_gelu_is_what_the_version_that_trained_the_model_computed(
    tmp_path: Path, version: object, activation: str
) -> None:
    opened = read_marian(write(tmp_path / "model.npz", **{"transformer-ffn-activation": "gelu", "version": version}))
    assert opened.model.config.activation == activation
    assert any("1.702" in note for note in opened.notes) == (activation == "gelu_sigmoid")
    swish = read_marian(write(tmp_path / "swish.npz", **{"transformer-ffn-activation": "swish", "version": version}))
    assert swish.model.config.activation == "swish"


def test_a_written_model_keeps_its_exact_gelu() -> None:
    written = settings_of(a_model(activation="gelu"), (V, V), "it")
    assert read_settings(written, "it").config.activation == "gelu"


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_marian_lacks_is_never_produced(tmp_path: Path, variant: str) -> None:
    model = read_marian(write(tmp_path / "model.npz", **VARIANTS[variant])).model
    with torch.inference_mode():
        logs = model(torch.tensor([ours("w2 w3")]), torch.tensor([[2, 5, 6]])).softmax(-1)
    assert float(logs[..., :2].max()) < 1e-30
    assert not model.config.unknown_words


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_written_holds_every_weight_that_was_read(tmp_path: Path, variant: str) -> None:
    path = write(tmp_path / "model.npz", **VARIANTS[variant])
    opened = read_marian(path)
    again = tmp_path / "again.npz"
    again.write_bytes(marian_npz(opened.model, ORDERS))
    with np.load(path, allow_pickle=False) as first, np.load(again, allow_pickle=False) as second:
        lacking = set(first.files) - set(second.files)
        tied = VARIANTS[variant].get("tied-embeddings-src")  # one matrix of Marian's is two of ours
        assert lacking == ({"Wemb"} if tied else set())
        for name in first.files:
            if name != "special:model.yml" and name not in lacking:
                assert np.array_equal(first[name], second[name]), name
    assert again.read_bytes() == marian_npz(read_marian(again).model, ORDERS)
    for source, target in PAIRS:
        assert torch.equal(scores(read_marian(again).model, source, target), scores(opened.model, source, target))


def refused(path: Path, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        open_foreign(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "amun"}, "type is 'amun'"),
        ({"type": "s2s"}, "type is 's2s'"),
        ({"transformer-decoder-autoreg": "rnn"}, "dec-cell is 'gru', hat-ray's Transformer has 'ssru' only"),
        ({"transformer-decoder-autoreg": "rnn", "dec-cell": "ssru"}, "lacks the weight decoder_l1_rnn_W"),
        (
            {"transformer-decoder-autoreg": "rnn", "dec-cell": "ssru", "layer-normalization": True},
            "layer-normalization is True",
        ),
        ({"transformer-decoder-autoreg": "average-attention"}, "transformer-decoder-autoreg is 'average-attention'"),
        ({"transformer-ffn-activation": "selu"}, "transformer-ffn-activation must be relu, swish, gelu"),
        ({"transformer-ffn-activation": ["relu"]}, "transformer-ffn-activation must be"),
        ({"transformer-ffn-depth": 3}, "transformer-ffn-depth is 3"),
        ({"transformer-tied-layers": [1, 1]}, r"transformer-tied-layers is \[1, 1\]"),
        ({"transformer-train-position-embeddings": True}, "transformer-train-position-embeddings is True"),
        ({"transformer-no-projection": True}, "transformer-no-projection is True"),
        ({"transformer-attention-mask": "alibi"}, "transformer-attention-mask is 'alibi'"),
        ({"transformer-postprocess": "adn"}, None),  # dropout where it does nothing here
        ({"transformer-postprocess": "na"}, "post-norm"),
        ({"transformer-postprocess-emb": "nd"}, "transformer-postprocess-emb is 'nd'"),
        ({"lemma-dim-emb": 8}, "lemma-dim-emb is 8"),
        ({"input-types": ["sequence", "sequence"]}, "input-types is"),
        ({"dim-vocabs": [V]}, "dim-vocabs must name two sizes"),
        ({"dim-vocabs": [V, V, V]}, "dim-vocabs must name two sizes"),
        ({"dim-vocabs": [10**9, V]}, "must be a whole number from 1 to"),
        ({"enc-depth": 10**9}, "enc-depth must be a whole number from 1 to"),
        ({"enc-depth": 3}, "lacks the weight encoder_l3"),
        ({"enc-depth": 1}, "has weights that hat-ray's Transformer lacks, such as encoder_l2"),
        ({"dim-emb": 32}, "its settings ask for"),
        ({"dim-emb": "16"}, "dim-emb must be a whole number"),
        ({"transformer-heads": 5}, "heads must divide"),
    ],
)
def test_what_hat_ray_cannot_compute_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    right = settings(**VARIANTS["as OPUS-MT"])
    path = write(tmp_path / "m.npz", {**weights(right), "special:model.yml": stored(right | changes)})
    if words is None:
        assert open_foreign(path).kind == "marian"
    else:
        refused(path, words)


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    config = settings(**VARIANTS["as OPUS-MT"])
    right = {**weights(config), "special:model.yml": stored(config)}
    name = "encoder_l1_ffn_W1"
    for change, words in (
        ({name: None}, f"lacks the weight {name}"),
        ({name: right[name].T}, f"{name} has shape"),
        ({name: (right[name] * 9).astype(np.int8)}, "must be floating-point numbers"),
        ({name: right[name].astype(">f4")}, "big-endian"),
        ({name: right[name].astype(np.longdouble)}, "must hold plain numbers"),
        ({name: right[name].astype(str)}, "must hold plain numbers"),
        ({"encoder_l1_ffn_W1_QuantMultA": np.ones(1, np.float32)}, "such as encoder_l1_ffn_W1_QuantMultA"),
        ({"special:model.yml": None}, "must hold its settings as text"),
        ({"special:model.yml": np.zeros(1 << 20, np.int8)}, "must hold its settings as text"),
        ({"special:model.yml": np.frombuffer(b"a: [1\0", np.int8)}, "is not YAML"),
        ({"special:model.yml": np.frombuffer(b"- 1\0", np.int8)}, "must hold keys and values"),
    ):
        arrays = {key: value for key, value in (right | change).items() if value is not None}
        refused(write(tmp_path / "m.npz", arrays), words)
    half = {key: value.astype(np.float16) if value.dtype == np.float32 else value for key, value in right.items()}
    assert open_foreign(write(tmp_path / "m.npz", half)).model.config.activation == "swish"


class Attack:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.place,)


def test_an_object_array_is_refused_and_its_code_does_not_run(tmp_path: Path) -> None:
    config, marker = settings(), tmp_path / "attacked"
    objects = np.empty(1, dtype=object)
    objects[0] = Attack(marker)
    path = write(tmp_path / "m.npz", {"special:model.yml": stored(config), "Wemb": objects})
    with np.load(path, allow_pickle=True) as harmful, pytest.raises(TypeError):
        harmful["Wemb"].item()()  # it would run
    assert marker.exists(), "the attack itself works"
    marker.rmdir()
    refused(path, "Wemb is an object array, which is a pickle")
    assert not marker.exists()


def archive(path: Path, entries: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def head(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text + b"\n"


def test_a_false_claim_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    refused(archive(path, {"a.npy": head("(1000000000000,)")}), "its entry has 0 bytes")
    refused(archive(path, {"a.npy": head("(-1, -4)") + bytes(16)}), "damaged")
    refused(archive(path, {"a.npy": head("(2, 2)") + bytes(12)}), "its entry has 12 bytes")
    refused(archive(path, {"a.npy": head("(" + "1," * 4000 + ")")}), "damaged")
    refused(archive(path, {"a.npy": head("__import__('os')")}), "damaged")
    refused(archive(path, {"a.npy": b"\x93NUMPY\x09\x00" + bytes(9)}), "version")
    refused(archive(path, {"a.npy": bytes(1 << 24)}, zipfile.ZIP_DEFLATED), "made to fill memory")
    refused(archive(path, {"a.txt": b"words"}), "is a zip archive of another kind")
    whole = write(tmp_path / "whole.npz").read_bytes()
    for end in (100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:end])
        refused(path, "zip archive|damaged")


def test_damage_is_found_wherever_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npz")
    whole, sound, found = path.read_bytes(), read_marian(path).model.weights(), 0
    for place in range(7, len(whole), len(whole) // 100):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        try:
            there = open_foreign(path).model.weights()
        except CheckpointError:
            found += 1
            continue
        assert all(torch.equal(there[name], weight) for name, weight in sound.items()), (
            "dates and the like hold nothing"
        )
    assert found > 50


def a_model(architecture: Architecture | None = None, **changes: Any) -> SubTransformer:
    right = {"positions": "marian", "start": "zero", "layer_norm_eps": 1e-6, "activation": "swish", "output_bias": True}
    usual = Architecture(EncoderShape(8, (12,), (2,)), DecoderShape(8, (12,), (2,), (2,), (1,)), 8)
    return SubTransformer(architecture or usual, 9, ModelConfig(**{**right, **changes})).eval()


def test_a_model_that_marian_cannot_compute_is_not_written() -> None:
    orders = range(9), range(9)
    assert marian_npz(a_model(), orders)
    decoder = DecoderShape(8, (12,), (2,), (2,), (1,))
    for model, words in (
        (a_model(positions="fairseq"), "model.positions must be marian, got fairseq"),
        (a_model(start="eos"), "model.start must be zero, got eos"),
        (a_model(layer_norm_eps=1e-5), "model.layer_norm_eps must be 1e-06"),
        (a_model(activation="gelu_tanh"), "model.activation must be one of"),
        (a_model(scale_embeddings=False), "model.scale_embeddings must be true"),
        (a_model(normalize_before=True, decoder_final_norm=False), "must end in a norm"),
        (a_model(sharing="importance"), "model.sharing=importance"),
        (a_model(Architecture(EncoderShape(8, (12, 9), (2, 2)), decoder, 8)), "one feed-forward width, got"),
        (a_model(Architecture(EncoderShape(8, (12,), (4,)), decoder, 8)), "one number of heads, got 2, 4"),
        (a_model(Architecture(EncoderShape(16, (12,), (2,)), decoder, 8)), "must have one width, got 16, 8 and 8"),
        (
            a_model(Architecture(EncoderShape(8, (12,) * 2, (2,) * 2), DecoderShape(8, (12,), (2,), (2,), (2,)), 8)),
            "attend to the last encoder layer alone, got 2",
        ),
    ):
        with pytest.raises(CheckpointError, match=words):
            marian_npz(model, orders)
    with pytest.raises(CheckpointError, match="the target vocabulary has 8 entries, the model 9"):
        marian_npz(a_model(), (range(9), range(8)))


def test_the_same_model_gives_the_same_bytes() -> None:
    assert marian_npz(a_model(), (range(9), range(9))) == marian_npz(a_model(), (range(9), range(9)))
    with zipfile.ZipFile(io.BytesIO(marian_npz(a_model(), (range(9), range(9))))) as file:
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}


def test_the_vocabulary_that_the_decoders_settings_name_is_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "model.npz", **VARIANTS["as OPUS-MT"])
    assert open_foreign(path).vocabularies is None
    numbers = "".join(f'"{word}": {index}\n' for index, word in enumerate(WORDS))
    (tmp_path / "words.yml").write_text(numbers)
    (tmp_path / "model.npz.decoder.yml").write_text("vocabs: [/where/it/was/trained/words.yml, words.yml]\n")
    opened = open_foreign(path)
    assert opened.vocabularies.joint
    for source, target in PAIRS:
        assert opened.vocabularies.source.encode(source) == ours(source)
        assert opened.vocabularies.target.encode(target) == ours(target)
    assert torch.equal(scores(opened.model, *PAIRS[1]), scores(read_marian(path).model, *PAIRS[1]))
    (tmp_path / "words.yml").write_text(numbers + f"more: {V}\n")
    refused(path, "the source vocabulary has 14 entries, the model 13")
