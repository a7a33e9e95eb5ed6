"""The runtime of those who name none."""

import logging
from importlib.util import find_spec

import pytest
import torch

from hat_ray.errors import HatRayError
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.choice import ModelFacts, choose, fastest_runtime, require
from hat_ray.runtime.processor import emulated
from hat_ray.runtime.protocol import RuntimeSettings, load_engine
from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.presets import TOY


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let this Python lack packages."""
    there = "hat_ray.runtime.protocol.find_spec"
    monkeypatch.setattr(there, lambda name: None if name in packages else find_spec(name))


def test_onnx_runtime_is_taken_where_it_is_installed_and_packed_pytorch_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = RuntimeSettings()
    largest = ModelFacts(TOY.largest(), ModelConfig())
    assert fastest_runtime(settings, largest).runtime == "onnx"
    without(monkeypatch, "onnxruntime")
    choice = fastest_runtime(settings, largest)
    assert choice.runtime == "packed"
    assert "not onnx, because runtime onnx needs onnxruntime: pip install onnxruntime" in choice.reason


def test_what_a_runtime_cannot_do_passes_it_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fastest_runtime(RuntimeSettings(device="cuda")).runtime == "eager"
    assert fastest_runtime(RuntimeSettings("bf16"), isa=("avx512_bf16", "avx512f", "avx2")).runtime == "packed"
    assert fastest_runtime(RuntimeSettings("bf16"), isa=("avx2",)).runtime == "eager"
    with pytest.raises(HatRayError, match=r"^runtime onnx computes in fp32 or int8, got dtype bf16"):
        fastest_runtime(RuntimeSettings("bf16", timed=True), isa=("avx2",))
    assert fastest_runtime(RuntimeSettings("int8")).runtime == "onnx"
    without(monkeypatch, "onnx")
    with pytest.raises(HatRayError, match=r"^runtime onnx needs onnx: pip install onnx$"):
        require(None, RuntimeSettings("int8"))
    require("eager", RuntimeSettings())


def test_weights_that_no_graph_holds_pass_onnx_runtime_over() -> None:
    two_gb = 2**31
    choice = fastest_runtime(RuntimeSettings(), ModelFacts(TOY.largest(), ModelConfig(), two_gb))
    assert choice.runtime == "packed"
    assert "not onnx, because graphs of onnx hold at most 2 GB of weights, got 2.1 GB" in choice.reason
    assert fastest_runtime(RuntimeSettings("int8"), ModelFacts(weight_bytes=two_gb)).runtime == "onnx"
    with pytest.raises(HatRayError, match=r"^graphs of onnx hold at most 2 GB of weights, got 2\.1 GB"):
        fastest_runtime(RuntimeSettings("int8"), ModelFacts(weight_bytes=4 * two_gb))


def test_a_named_onnx_refuses_in_one_line_what_no_graph_holds() -> None:
    architecture = Architecture(
        EncoderShape(512, (512,), (8,)), DecoderShape(1024, (512,), (8,), (8,), (1,)), qkv_dim=512
    )
    with torch.device("meta"):  # its weights take no memory: only their sizes are looked at
        model = SubTransformer(architecture, 600_000, ModelConfig(share_embeddings="decoder"))
    assert sum(weight.nbytes for weight in model.encoder.parameters()) < 2**31
    with pytest.raises(HatRayError, match=r"^graphs of onnx hold at most 2 GB of weights, got 2\.5 GB: take runtime"):
        load_engine(model, "onnx", RuntimeSettings())
    with pytest.raises(HatRayError, match="graphs are built from fp32 weights on the CPU"):  # in int8 they are held
        load_engine(model, "onnx", RuntimeSettings("int8"))


def test_the_chosen_runtime_is_logged_and_computes_what_the_model_does(caplog: pytest.LogCaptureFixture) -> None:
    model = SubTransformer(TOY.smallest(), 40, ModelConfig()).eval()
    with caplog.at_level(logging.INFO):
        choice = choose(RuntimeSettings(), model)
    assert f"runtime {choice.runtime} fp32: the fastest that executes this model here" in caplog.text
    source, tokens = torch.tensor([[5, 6, 7, 2]]), torch.tensor([0, 0])
    with torch.inference_mode():
        plain = load_engine(model, "eager", RuntimeSettings())
        expected = plain.step(tokens, plain.start(source, 2)).clone()  # type: ignore[union-attr]
        chosen = load_engine(model, choice.runtime, RuntimeSettings())
        found = chosen.step(tokens, chosen.start(source, 2))  # type: ignore[union-attr]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(emulated("bf16") is None, reason="needs a processor without bf16")
def test_an_emulated_dtype_is_not_timed() -> None:
    with pytest.raises(HatRayError, match="bf16"):
        fastest_runtime(RuntimeSettings("bf16", timed=True))
