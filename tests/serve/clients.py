"""Public clients of a service: LibreTranslate's for Python, and curl as a process."""

import json
import shutil
import subprocess
from typing import Any

import pytest


def libre_client(url: str) -> Any:
    """Return LibreTranslate's client of a service, or skip."""
    library = pytest.importorskip("libretranslatepy", reason="needs libretranslatepy: pip install 'hat-ray[dev]'")
    return library.LibreTranslateAPI(url)


def curl(url: str, *arguments: str) -> Any:
    """Return the JSON that curl gets, or skip without curl."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    command = ["curl", "--silent", "--show-error", "--max-time", "60", *arguments, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
