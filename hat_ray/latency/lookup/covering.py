"""Spaces of a latency table whose rows serve a smaller space.

A table keeps the id of each row's space, which is a hash. A built-in space is known by its id; of another one the rows
show choices. A space holds all combinations of its choices, so choices that its rows show prove that it contains a
space; too few rows prove nothing, and then they are not used.
"""

from hat_ray.latency.table.part_file import KeptParts
from hat_ray.latency.table.parts import partition_values, partitions
from hat_ray.latency.table.table import scan_table
from hat_ray.space.architecture import Architecture
from hat_ray.space.derived import space_shown_by
from hat_ray.space.presets import PRESETS
from hat_ray.space.search_space import SearchSpace
from hat_ray.storage.folder import Folder

_BY_ID = {space.id: space for space in PRESETS.values()}
_A_FEW = 500
"""Architectures that show every choice of most spaces: the others are looked at only where these do not suffice."""


def covering_spaces(table: Folder | KeptParts, space: SearchSpace) -> tuple[str, ...]:
    """Return the ids of a table's other spaces that contain a space."""
    folder = table.folder if isinstance(table, KeptParts) else table
    others = sorted({partition_values(place)[0] for place in partitions(folder)} - {space.id})
    return tuple(other for other in others if _covers(table, other, space))


def _covers(table: Folder | KeptParts, other: str, space: SearchSpace) -> bool:
    if other in _BY_ID:
        return _BY_ID[other].covers(space)
    texts = scan_table(table, other, columns=["architecture_json"]).column(0).unique().drop_null().to_pylist()
    for count in dict.fromkeys((min(_A_FEW, len(texts)), len(texts))):
        shown = space_shown_by(Architecture.from_json(text) for text in texts[:count])
        if shown is not None and shown.covers(space):
            return True
    return False
