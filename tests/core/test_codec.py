"""Typed values as JSON: they come back as they were, and whatever else stands in a file is one line."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from hat_ray.core.codec import FORMAT, SEAL, Loss, decode, encode, from_json, read, to_json, write
from hat_ray.errors import DamagedError, FormatError
from hat_ray.storage.folder import Folder
from tests.damage import sealed


@dataclass(frozen=True)
class Inner:
    loss_bits: Loss
    name: str = "x"


@dataclass(frozen=True)
class Value:
    FORMAT: ClassVar[int] = 3

    inner: tuple[Inner, ...]
    count: int


VALUE = Value((Inner(1.5), Inner(math.inf, "diverged")), 7)


def refusal(content: object) -> str:
    with pytest.raises(DamagedError) as error:
        decode(json.dumps(content).encode(), Value, "place/value.json", "make it again")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("place/value.json ")
    assert str(error.value).endswith(": make it again")
    return str(error.value)


def test_a_value_comes_back_and_a_loss_that_is_no_number_is_null_on_disk(tmp_path: Path):
    write(Folder.at(tmp_path), "value.json", VALUE)
    stored = json.loads((tmp_path / "value.json").read_text())
    assert stored[FORMAT] == 3
    assert stored["inner"][1] == {"loss_bits": None, "name": "diverged"}
    assert read(Folder.at(tmp_path), "value.json", Value) == VALUE
    assert from_json(Value, to_json(VALUE), "it") == VALUE


def test_any_change_of_a_sealed_file_is_noticed():
    stored = encode(VALUE)
    assert "its content does not match its SHA-256" in refusal({**stored, "count": 8})
    assert "its content does not match its SHA-256" in refusal({**stored, "more": 1})
    assert "its content does not match its SHA-256" in refusal({**stored, FORMAT: 4})


def test_another_format_is_refused_before_any_field_is_read():
    unsealed = {key: value for key, value in encode(VALUE).items() if key != SEAL}
    assert "has format 4, this hat-ray reads format 3" in refusal({FORMAT: 4, "another": "shape"})
    assert "names no format, this hat-ray reads format 3" in refusal({"inner": [], "count": 1})
    with pytest.raises(FormatError):
        decode(json.dumps({**unsealed, FORMAT: 2}).encode(), Value, "it")


def test_a_file_without_its_seal_is_refused_though_its_types_are_right():
    unsealed = {key: value for key, value in encode(VALUE).items() if key != SEAL}
    assert "it lacks sealed_sha256" in refusal(unsealed)
    assert "it lacks sealed_sha256" in refusal({**unsealed, "count": 8})
    assert decode(json.dumps(sealed(unsealed)).encode(), Value, "it") == VALUE


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({FORMAT: 3, "inner": [], "count": "many"}, "count: Input should be a valid integer"),
        ({FORMAT: 3, "inner": [{"loss_bits": "x"}], "count": 1}, "inner.0.loss_bits: Input should be a valid number"),
        ({FORMAT: 3, "inner": []}, "count: Field required"),
        ([], "it must hold a JSON object, got list"),
    ],
)
def test_a_wrong_field_is_named_in_one_line(content: object, why: str):
    assert why in refusal(sealed(content) if isinstance(content, dict) else content)


@pytest.mark.parametrize(("content", "why"), [(b"", "it is empty"), (b'{"a"', "it is no JSON"), (b"[" * 99999, "JSON")])
def test_what_is_no_json_is_one_line(content: bytes, why: str):
    with pytest.raises(DamagedError, match=why):
        decode(content, Value, "it")
