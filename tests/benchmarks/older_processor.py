"""Let ONNX Runtime believe that this x86 processor is an older one: a copy of it asks us what the processor can do.

    python -m tests.benchmarks.older_processor FOLDER     (needs a C compiler and objdump; x86-64 Linux)

ONNX Runtime has no setting for that, and no processor traps `cpuid` for us. So a copy of the package is made in FOLDER
in which every `cpuid` is a breakpoint, and a small library answers it without the instructions that an older processor
lacks. All else runs at full speed. What it prints is the environment to run tests and benchmarks in:
`HAT_RAY_OLDER_X86` is `avx2`, or `avx512` for AVX-512 without VNNI; unset, the copy is as the original.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime

_LIBRARY = r"""
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

static int avx2, avx512;

static void answer(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned leaf = registers[REG_RAX], sub = registers[REG_RCX], a, b, c, d;
    __cpuid_count(leaf, sub, a, b, c, d);
    if (leaf == 7 && sub == 0 && avx2) {  /* all of AVX-512, AMX */
        b &= ~0xdc230000u;
        c &= ~0x00005842u;
        d &= ~0x03c0010cu;
    }
    if (leaf == 7 && sub == 0 && avx512) {  /* AVX512_VNNI, AMX */
        c &= ~0x00000800u;
        d &= ~0x03400000u;
    }
    if (leaf == 7 && sub == 1 && (avx2 || avx512)) {  /* AVX_VNNI, AVX512_BF16, AVX_VNNI_INT8, AVX_NE_CONVERT */
        a &= ~0x00000030u;
        d &= ~0x00000430u;
    }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
}

__attribute__((constructor)) static void start(void) {
    const char *as = getenv("HAT_RAY_OLDER_X86");
    avx2 = as && !strcmp(as, "avx2"), avx512 = as && !strcmp(as, "avx512");
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGTRAP, &action, 0);
}
"""


def make(folder: Path) -> str:
    """Make the copy and the library; return the environment that uses them."""
    folder.mkdir(parents=True)
    source, library = folder / "answer.c", folder.absolute() / "answer.so"
    source.write_text(_LIBRARY)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=60)
    own = Path(onnxruntime.__file__).parent
    shutil.copytree(own, folder / "onnxruntime")
    [binary] = (folder / "onnxruntime" / "capi").glob("onnxruntime_pybind11_state*.so")
    print(f"{_patch(binary)} places ask what the processor can do", file=sys.stderr)
    return f"LD_PRELOAD={library} PYTHONPATH={folder.absolute()} HAT_RAY_OLDER_X86=avx2"


def _patch(binary: Path) -> int:
    """Replace every `cpuid` (0F A2) by a breakpoint and a no-op."""
    code = _told("objdump", "-d", str(binary))
    segments = [
        line.split() for line in _told("readelf", "-lW", str(binary)).splitlines() if line.split()[:1] == ["LOAD"]
    ]
    content, count = bytearray(binary.read_bytes()), 0
    for found in re.finditer(r"^\s*([0-9a-f]+):\s+0f a2\s+cpuid", code, re.MULTILINE):
        address = int(found[1], 16)
        for _, offset, start, _, size, *_ in segments:
            if 0 <= address - int(start, 16) < int(size, 16):
                place = address - int(start, 16) + int(offset, 16)
                assert content[place : place + 2] == b"\x0f\xa2"
                content[place : place + 2] = b"\xcc\x90"
                count += 1
    binary.write_bytes(content)
    return count


def _told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
