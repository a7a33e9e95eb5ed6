"""Recognise an exported folder. Loads no PyTorch."""

import os
from pathlib import Path

from hat_ray.runtime.standalone.translate import MANIFEST
from hat_ray.storage.folder import Folder
from hat_ray.storage.places import is_uri


def is_export(place: str | Path) -> bool:
    """Report whether a path or URI is an exported folder; it may still be damaged."""
    if is_uri(str(place)):
        return Folder.at(place).exists(MANIFEST)
    return os.path.lexists(os.path.join(place, MANIFEST))
