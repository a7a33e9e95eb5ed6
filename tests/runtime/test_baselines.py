"""What the benchmarks compare with computes what the model computes: only the way there differs."""

import pytest

from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from tests.benchmarks.hat_decoder import HatDecoder
from tests.benchmarks.plain_decoder import PlainDecoder
from tests.runtime.models import ARCHITECTURES, a_model
from tests.runtime.test_onnx_model import differences

LARGEST = Architecture(
    EncoderShape(64, (80, 80, 80), (4, 4, 4)), DecoderShape(40, (96,) * 3, (4,) * 3, (4,) * 3, (1,) * 3), qkv_dim=32
)


@pytest.mark.parametrize("beam", [1, 3])
def test_baselines_compute_what_the_model_computes(beam: int) -> None:
    model = a_model(ARCHITECTURES["every layer its own, reach 3 1 2"])
    for baseline in (PlainDecoder(model), HatDecoder(model, LARGEST)):
        assert max(differences(model, baseline, 8, beam, sentences=2)) < 1e-5
