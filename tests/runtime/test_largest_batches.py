"""Every runtime from one sentence with one beam to 256 sentences with sixteen."""

import pytest

from hat_ray.runtime.packed import is_available
from hat_ray.runtime.protocol import RuntimeSettings, load_engine
from tests.runtime.models import ARCHITECTURES, a_model
from tests.runtime.test_onnx_model import differences

ARCHITECTURE = ARCHITECTURES["every layer its own, reach 3 1 2"]


@pytest.mark.parametrize(("sentences", "beam"), [(1, 1), (1, 16), (256, 1), (256, 16)])
@pytest.mark.parametrize("runtime", ["packed", "onnx"])
def test_logits_are_those_of_the_model(runtime: str, sentences: int, beam: int) -> None:
    if runtime == "packed" and not is_available():
        pytest.skip("this PyTorch has no oneDNN")
    other = load_engine(a_model(ARCHITECTURE), runtime, RuntimeSettings())
    assert max(differences(a_model(ARCHITECTURE), other, 5, beam, sentences)) < 1e-5


@pytest.mark.parametrize("beam", [1, 16])
def test_int8_is_as_close_with_many_sentences(beam: int) -> None:
    model = a_model(ARCHITECTURE)
    assert (
        max(differences(model, load_engine(model, "onnx", RuntimeSettings("int8")), 5, beam, 256)) < 0.1
    )  # the largest of many more
