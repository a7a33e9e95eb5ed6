"""HAT checkpoints that claim what they do not hold: one line each, and no memory or time for what they claim."""

import os
import random
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hat_files import ARGUMENTS, SPACE, VOCAB, Call, Claim, Spread, content, weights, write

from hat_ray.errors import CheckpointError
from hat_ray.model.checkpoints.fairseq import load_hat_checkpoint
from tests.bounded import bounded

BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["zipped", "legacy"])


def refusal(path: Path) -> str:
    """Return in which line a checkpoint is refused, in a process with half a gigabyte to spare."""

    def load() -> str:
        with pytest.raises(CheckpointError) as refused:
            load_hat_checkpoint(path)
        return str(refused.value)

    told: str = bounded(load, more_bytes=1 << 29, seconds=20)
    assert "\n" not in told
    assert str(path) in told
    assert len(told) < 500
    return told


@BOTH
def test_a_sound_checkpoint_loads_bit_by_bit(tmp_path: Path, legacy: bool) -> None:
    path, expected = tmp_path / "x.pt", content()
    torch.save(expected, path, _use_new_zipfile_serialization=not legacy)
    checkpoint = load_hat_checkpoint(path)
    assert (checkpoint.space.id, checkpoint.updates) == (SPACE.id, 7)
    for name, weight in checkpoint.model.weights().items():
        assert torch.equal(weight, expected["model"][name]), name


class NestedKey:
    """A dictionary with one key, a tuple whose hash takes two to the power of a hundred steps."""

    def __reduce__(self) -> tuple[Any, ...]:
        key: Any = (1, 2)
        for _ in range(100):
            key = (key, key)
        return OrderedDict, (), None, None, iter([(key, 1)])


CLAIMS: dict[str, tuple[Callable[[], Any], str]] = {
    "256 GB": (lambda: Spread(Claim("0", 2**36), 0, (2, 2), (2, 1)), "claim"),
    "a size that is none": (lambda: Spread(Claim("0", -4), 0, (2, 2), (2, 1)), "size, got"),
    "shape beyond its storage": (lambda: Spread(Claim("0", 4), 0, (2**36,), (1,)), "does not fit in its storage of 4"),
    "strides beyond its storage": (lambda: Spread(Claim("0", 4), 0, (2, 2), (2**36, 1)), "does not fit in its storage"),
    "offset beyond its storage": (lambda: Spread(Claim("0", 4), 3, (2,), (1,)), "does not fit in its storage"),
    "offset before its storage": (lambda: Spread(Claim("0", 4), -2, (2,), (1,)), "no storage, shape or strides"),
    "backwards": (lambda: Spread(Claim("0", 4), 3, (2,), (-1,)), "no storage, shape or strides"),
    "spread out": (lambda: Spread(Claim("0", 4), 0, (2**20, 2**20), (0, 0)), "does not fit in its storage"),
    "overlapping": (lambda: Spread(Claim("0", 4), 0, (3, 2), (1, 1)), "does not fit in its storage"),
    "no storage": (lambda: Spread((1.0,) * 4, 0, (2, 2), (2, 1)), "no storage, shape or strides"),
    "two sizes": (lambda: [Claim("0", 4), Claim("0", 2)], "claimed with two sizes"),
    "memory by name": (lambda: Call(bytearray, 2**40), "bytearray"),
    "memory by type": (lambda: Call(torch.FloatStorage, 2**40), "must be made of nothing"),
    "time without end": (NestedKey, "no plain value"),
}


@BOTH
@pytest.mark.parametrize("case", CLAIMS)
def test_claims_that_the_file_does_not_keep_are_refused_before_memory_is_taken(
    tmp_path: Path, case: str, legacy: bool
) -> None:
    make, rule = CLAIMS[case]
    value = content() | {"model": {"w": make()}}
    assert rule in refusal(write(tmp_path / "x.pt", value, {"0": bytes(16)}, legacy))


def test_a_view_into_a_legacy_storage_is_refused(tmp_path: Path) -> None:
    value = {"w": Claim("0", 4, view=("1", 2**36, 2**36))}
    assert "outside that is no storage" in refusal(write(tmp_path / "x.pt", value, {"0": bytes(16)}, legacy=True))


def test_a_storage_that_is_shorter_than_its_claim_is_refused(tmp_path: Path) -> None:
    value = {"w": Spread(Claim("0", 8), 0, (8,), (1,))}
    assert "claims 32 bytes, the file has 16" in refusal(write(tmp_path / "x.pt", value, {"0": bytes(16)}))
    assert "claims 32 bytes, the file has 0" in refusal(write(tmp_path / "y.pt", value, {}))
    told = refusal(write(tmp_path / "z.pt", value, {"0": bytes(16)}, legacy=True))
    assert "claim 40 bytes, the file has 24" in told


def test_an_archive_that_unpacks_to_more_than_itself_is_refused(tmp_path: Path) -> None:
    value = {"w": Spread(Claim("0", 2**26), 0, (2**26,), (1,))}
    path = write(tmp_path / "x.pt", value, {"0": bytes(2**28)}, compressed=True)
    assert path.stat().st_size < 2**20
    assert "it is compressed" in refusal(path)
    with zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"(" * 2**28)
    assert "it is compressed" in refusal(tmp_path / "y.pt")


def test_a_pickle_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"\x80\x02" + b"N0" * 10**7)
    told = refusal(tmp_path / "x.pt")
    assert "POP" in told or "operations" in told
    (tmp_path / "y.pt").write_bytes(b"\x80\x02" + b"]" * 10**7)
    assert "more than 2000000 operations" in refusal(tmp_path / "y.pt")


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"encoder_layers": ...}, "it lacks 'encoder_layers'"),
        ({"encoder_layers": 10**9}, "encoder_layers must be a whole number from 1 to 128, got 1000000000"),
        ({"encoder_layers": 128, "encoder_layer_num_choice": [128]}, "parameters, its weights hold"),
        ({"decoder_embed_dim": 10**12}, "decoder_embed_dim must be a whole number from 1 to 131072"),
        ({"decoder_embed_dim": 131072, "decoder_embed_choice": [131072]}, "parameters, its weights hold"),
        ({"encoder_ffn_embed_dim": 2.5}, "encoder_ffn_embed_dim must be a whole number from 1 to 131072, got 2.5"),
        ({"qkv_dim": "16"}, "qkv_dim must be a whole number from 1 to 131072, got '16'"),
        ({"qkv_dim": True}, "qkv_dim must be a whole number"),
        ({"qkv_dim": 0}, "qkv_dim must be a whole number"),
        ({"encoder_embed_choice": None}, "not iterable"),
        ({"encoder_embed_choice": ["16"]}, "not supported between"),
        ({"encoder_self_attention_heads_choice": [3]}, "heads must divide"),
        ({"encoder_self_attention_heads_choice": [10**9]}, "encoder_heads must be whole numbers"),
        ({"encoder_self_attention_heads_choice": []}, "needs distinct choices"),
        ({"decoder_arbitrary_ende_attn_choice": [7]}, "it lacks 7"),
        ({"decoder_arbitrary_ende_attn_choice": [[7]]}, "unhashable"),
        ({"dropout": "much"}, "dropout"),
        ({"encoder_embed_dim_subtransformer": 16}, "it lacks 'encoder_layer_num_subtransformer'"),
        (
            {"encoder_ffn_embed_dim": 16, "encoder_ffn_embed_dim_choice": [16]},
            "has shape (24, 16), the model needs (16",
        ),
        ({"decoder_layers": 1, "decoder_layer_num_choice": [1]}, "weights that HAT's Transformer lacks"),
        ({"share_all_embeddings": False}, "parameters, its weights hold"),
    ],
)
def test_arguments_that_do_not_fit_the_weights_are_refused(
    tmp_path: Path, arguments: dict[str, Any], rule: str
) -> None:
    torch.save(content(**arguments), tmp_path / "x.pt")
    assert rule in refusal(tmp_path / "x.pt")


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in weights().items() if key != name}


NAME = "decoder.layers.1.fc2.weight"


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (lambda: [1, 2], "the weights must be a dictionary, got list"),
        (lambda: {}, "it lacks 'encoder.embed_tokens.weight'"),
        (lambda: _without(NAME), "parameters, its weights hold"),
        (lambda: _without(NAME) | {"another": torch.zeros(16, 24)}, f"lacks the weight {NAME}"),
        (lambda: weights() | {NAME: torch.zeros(16, 25)}, f"{NAME} has shape (16, 25), the model needs (16, 24)"),
        (lambda: weights() | {NAME: torch.zeros(16 * 24)}, f"{NAME} has shape (384,)"),
        (lambda: weights() | {NAME: torch.zeros(16, 24, dtype=torch.int64)}, "must be dense floating-point numbers"),
        (lambda: weights() | {NAME: "zeros"}, "each weight must be a tensor with a name"),
        (lambda: weights() | {7: torch.zeros(1)}, "each weight must be a tensor with a name, got 7"),
        (lambda: weights() | {"encoder.embed_positions.weight": torch.zeros(9, 16)}, "weights that HAT's Transformer"),
        (lambda: weights() | {"encoder.embed_tokens.weight": torch.zeros(())}, "out of range"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path: Path, model: Callable[[], Any], rule: str) -> None:
    torch.save(content() | {"model": model()}, tmp_path / "x.pt")
    assert rule in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("value", [None, [], 3, {}, {"args": None}, {"model": {}}, {"args": {}, "model": {}}])
def test_what_is_no_checkpoint_at_all_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "x.pt")
    assert "is not a HAT checkpoint" in refusal(tmp_path / "x.pt")


@pytest.mark.parametrize("history", [{}, {"a": 1}, [], [1], [{"num_updates": "many"}], [{"num_updates": 10**30}], 3])
def test_a_history_of_any_form_harms_nothing(tmp_path: Path, history: Any) -> None:
    torch.save(content() | {"optimizer_history": history}, tmp_path / "x.pt")
    assert load_hat_checkpoint(tmp_path / "x.pt").updates in (0, 10**30)


def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.pt")
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    for path in (tmp_path / "fifo.pt", tmp_path / "zero.pt", tmp_path):
        assert "name a plain file" in refusal(path)


def _damaged(whole: bytes, rng: random.Random) -> bytes:
    """Cut a file, turn some of its bits, or swap bytes that tell types, somewhere."""
    kind = rng.randrange(4)
    place = rng.randrange(len(whole)) if rng.random() < 0.5 else rng.randrange(min(len(whole), 4000))
    if kind == 0:
        return whole[:place]
    if kind == 1:
        return whole[:place] + whole[place + rng.randrange(1, 9) :]
    changed = bytearray(whole)
    for _ in range(1 if kind == 2 else rng.randrange(2, 40)):
        at = rng.randrange(len(whole)) if rng.random() < 0.3 else min(len(whole) - 1, place + rng.randrange(200))
        changed[at] = changed[at] ^ 1 << rng.randrange(8) if kind == 2 else rng.choice(b"KJMG(t.cqrXNRQbsue]}\x89\x8a")
    return bytes(changed)


@BOTH
@pytest.mark.parametrize("seeds", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_whatever_is_damaged_is_refused_in_one_line_or_loads(tmp_path: Path, seeds: int, legacy: bool) -> None:
    path, work = tmp_path / "x.pt", tmp_path / "y.pt"
    torch.save(content(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()

    def load_all() -> list[int]:
        refused, sound, longest = 0, 0, 0.0
        for seed in range(seeds):
            work.write_bytes(_damaged(whole, random.Random(seed)))
            began = time.process_time()
            try:
                load_hat_checkpoint(work)
            except CheckpointError as error:
                refused += len(str(error).splitlines()) == 1 and len(str(error)) < 500
            except BaseException as error:
                raise AssertionError(f"seed {seed}") from error
            else:
                sound += 1
            longest = max(longest, time.process_time() - began)
        return [refused, sound, int(longest)]

    refused, sound, longest = bounded(load_all, more_bytes=1 << 29, seconds=30 + seeds // 4)
    assert refused + sound == seeds
    assert refused > seeds / 3
    assert longest < 5


def test_the_arguments_that_the_tests_change_are_sound() -> None:
    assert {"encoder_layers", "qkv_dim"} <= ARGUMENTS.keys()
    assert weights()["encoder.embed_tokens.weight"].shape[0] == VOCAB
