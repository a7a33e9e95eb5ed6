"""What a processor can run is known beforehand, and told in one line."""

import os
import subprocess
import sys

import pytest

from hat_ray.core.processor import allowed_isa
from hat_ray.runtime.processor import arithmetic, emulated, saturates
from hat_ray.runtime.protocol import RUNTIMES, RuntimeSettings, why_unsupported

AVX2 = ("avx2", "avx", "fma")
OLDER = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    own = {key: value for key, value in os.environ.items() if key not in OLDER}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env={**own, **environment})


@pytest.mark.parametrize(
    ("isa", "able"),
    [
        (AVX2, False),
        (("avx_vnni", *AVX2), False),
        (("avx_ne_convert", *AVX2), True),
        (("avx512f", *AVX2), True),
        (("avx512f", "avx512_bf16", *AVX2), True),
        (("asimd",), False),
        (("bf16", "asimd"), True),
        ((), False),
    ],
)
def test_packed_bf16_needs_instructions_for_it(isa: tuple[str, ...], able: bool) -> None:
    reason = why_unsupported("packed", RuntimeSettings("bf16"), isa=isa)
    assert (reason is None) == able
    if reason:
        assert "needs avx512f, avx_ne_convert or ARM's bf16, the processor has" in reason
        assert reason.endswith("take dtype fp32, or runtime onnx with dtype int8")


def test_everything_else_runs_on_every_processor() -> None:
    for runtime in RUNTIMES.own_names:
        for dtype in RUNTIMES.facts(runtime).dtypes:
            if (runtime, dtype) != ("packed", "bf16"):
                assert why_unsupported(runtime, RuntimeSettings(dtype), isa=AVX2) is None
    assert "computes in" in (why_unsupported("onnx", RuntimeSettings("bf16"), isa=AVX2) or "")


def test_bf16_that_is_only_emulated_translates_and_is_not_timed() -> None:
    translated, timed = RuntimeSettings("bf16"), RuntimeSettings("bf16", timed=True)
    assert why_unsupported("eager", translated, isa=AVX2) is None
    assert "would emulate it" in (why_unsupported("eager", timed, isa=AVX2) or "")
    assert why_unsupported("eager", timed, isa=("avx512_bf16",)) is None


def test_bf16_without_instructions_of_its_own_is_emulated() -> None:
    assert "avx2" in (emulated("bf16", AVX2) or "")
    assert emulated("fp32", ()) is None
    assert [arithmetic("bf16", isa) for isa in (AVX2, ("avx512_bf16",))] == [
        "bf16 emulated in fp32",
        "bf16 by avx512_bf16",
    ]


def test_int8_has_a_path_on_every_processor() -> None:
    told = {flag: arithmetic("int8", (flag,)) for flag in ("avx512_vnni", "avx_vnni", "asimddp", "avx2")}
    assert len(set(told.values())) == 4
    assert told["avx2"] == "bytes in pairs of 16 bits, which these weights cannot overflow"


def test_only_earlier_exports_saturate_and_only_without_exact_products() -> None:
    assert saturates("rows", AVX2)
    for quantisation, isa in (("pairs", AVX2), ("none", AVX2), ("rows", ("avx_vnni", *AVX2)), ("rows", ("asimd",))):
        assert not saturates(quantisation, isa)


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        ("", ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2", "avx")),
        ("AVX512_CORE_BF16", ("avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2", "avx")),
        ("avx512_core", ("avx512f", "avx_vnni", "avx2", "avx")),
        ("AVX2", ("avx2", "avx")),
        ("SSE41", ()),
        ("NONSENSE", ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2", "avx")),
    ],
)
def test_a_limit_of_the_environment_takes_flags_away(
    monkeypatch: pytest.MonkeyPatch, limit: str, kept: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    flags = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2", "avx")
    assert allowed_isa(flags) == kept


def test_within_older_instructions_packed_bf16_is_refused_in_one_line_and_fp32_is_right() -> None:
    code = """
import torch
from hat_ray.latency.detection import detect
from hat_ray.errors import HatRayError
from hat_ray.runtime.protocol import RuntimeSettings, load_engine
from tests.runtime.models import ARCHITECTURES, a_model, sources
assert torch.backends.cpu.get_cpu_capability() in ("AVX2", "DEFAULT"), "the older instructions are not forced"
small = ARCHITECTURES["one layer each"]
on = RuntimeSettings("bf16")
for make in (lambda: load_engine(a_model(small), "packed", on), lambda: detect(runtime="packed", dtype="bf16")):
    try:
        make()
    except HatRayError as error:
        assert len(str(error).splitlines()) == 1
        print(error)
    else:
        raise AssertionError("packed bf16 was not refused")
first, source = torch.tensor([5, 6]), sources(2, 7)
with torch.inference_mode():
    engines = [load_engine(a_model(small), name, RuntimeSettings()) for name in ("eager", "packed", "onnx")]
    logits = [each.step(first, each.start(source, 1)).clone() for each in engines]
for other in logits[1:]:
    assert float((logits[0] - other).abs().max() / logits[0].abs().max()) < 1e-5
"""
    done = python(code, **OLDER)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("runtime packed in bf16 needs avx512f, avx_ne_convert or ARM's bf16, ")


@pytest.mark.parametrize("command", ["translate", pytest.param("serve", marks=pytest.mark.slow)])
def test_a_command_that_asks_for_what_this_processor_cannot_ends_with_2_and_one_line(command: str) -> None:
    told = ["-m", "hat_ray.cli", command, "toy", "--runtime", "packed", "--dtype", "bf16"]
    done = subprocess.run(
        [sys.executable, *told],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, **OLDER},
    )
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("hat-ray: error: runtime packed in bf16 needs avx512f, avx_ne_convert or ARM's bf16, ")
    assert line.endswith("take dtype fp32, or runtime onnx with dtype int8")
