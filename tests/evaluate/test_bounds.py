"""By what an export is judged."""

from dataclasses import replace

import pytest

from hat_ray.errors import ExportError
from hat_ray.export.parity import Parity
from hat_ray.runtime.processor import arithmetic
from hat_ray.runtime.protocol import RUNTIMES, Bounds

BOUNDS = {name: RUNTIMES.load(name).exporter.bounds for name in ("onnx", "ctranslate2")}
SEEN = Parity(
    sentences=500,
    identical=291,
    token_agreement=0.8897,
    bleu=37.0,
    exported_bleu=36.8,
    bleu_signature="",
    logit_error=1.5,
    logit_sentences=32,
    arithmetic=arithmetic("int8", ("avx2",)),
)


@pytest.mark.parametrize("bounds", [one["int8"] for one in BOUNDS.values()], ids=BOUNDS)
def test_int8_is_judged_by_bleu_and_not_by_tokens(bounds: Bounds) -> None:
    SEEN.require(bounds)
    worse = replace(SEEN, exported_bleu=SEEN.bleu - 0.3 - 0.01, token_agreement=0.999)
    with pytest.raises(ExportError, match=r"500 sentences \(bytes in pairs.*at most 0\.3 BLEU may be lost"):
        worse.require(bounds)
    worse.require(Bounds(None, 1.0))


def test_who_asks_for_agreement_gets_it_judged() -> None:
    with pytest.raises(ExportError, match=r"token agreement must be at least 0\.9, got 0\.8897"):
        SEEN.require(Bounds(0.9, 0.3))


def test_fp32_is_judged_by_everything() -> None:
    same = replace(SEEN, token_agreement=1.0, exported_bleu=37.0, logit_error=1e-5)
    same.require(BOUNDS["onnx"]["fp32"])
    for change in ({"token_agreement": 0.98}, {"exported_bleu": 36.8}, {"logit_error": 0.01}):
        with pytest.raises(ExportError):
            replace(same, **change).require(BOUNDS["onnx"]["fp32"])
