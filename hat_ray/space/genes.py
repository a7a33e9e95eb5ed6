"""Architectures as rows of small numbers, so that thousands of children are bred and judged at once.

A row holds one gene a column: 1 is the smallest choice, 2 the next; 0 says that the layer does not exist. Two rows in
canonical form are equal where their architectures are.
"""

import random
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from hat_ray.space.architecture import Architecture, build, choices_of
from hat_ray.space.dimension import Choice, Dimension
from hat_ray.space.dimensions import BY_NAME, CELLS, SELF_HEADS
from hat_ray.space.features import ShapedArchitectures, Shapes
from hat_ray.space.search_space import SearchSpace

Rows = npt.NDArray[np.signedinteger[Any]]
"""Gene rows, (N, G): bytes, or wider where a dimension has more choices than a byte counts (`GeneCode.dtype`)."""

_DRAWN_FIRST = ("encoder_embed_dims", "decoder_embed_dims", "encoder_depths", "decoder_depths")
"""What `child` draws before all else, in this order, which seeds depend on."""
_SSRU = BY_NAME[CELLS].number("ssru")


@dataclass(frozen=True)
class Gene:
    """One column: what it chooses, in which layer, among which values, smallest first."""

    dimension: str
    layer: int | None
    """None: the whole encoder, decoder or network has this gene once."""
    choices: tuple[Choice, ...]


class GeneCode:
    """Translate between the architectures of a space and gene rows; breed children.

    The columns follow the dimensions of the space, in the order of the table; one that has a value a layer takes as
    many columns as the largest architecture has layers.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._choices = {one.name: tuple(sorted(space[one.name], key=one.number)) for one in space.dimensions}
        self._numbers = {one.name: tuple(map(one.number, self._choices[one.name])) for one in space.dimensions}
        self.genes = tuple(
            Gene(one.name, layer if one.per_layer and not space.alike_layers else None, self._choices[one.name])
            for one in space.dimensions
            for layer in range(space.most_choices(one))
        )
        self.sizes: npt.NDArray[np.int64] = np.array([len(gene.choices) for gene in self.genes])
        """Choices of each gene, (G,)."""
        widths: tuple[type[np.signedinteger[Any]], ...] = (np.int8, np.int16, np.int32)
        self.dtype = next(width for width in widths if self.sizes.max() <= np.iinfo(width).max)
        """Bytes wherever they suffice: random draws depend on the width, and seeds must not move."""
        columns: dict[str, list[int]] = {}
        for place, gene in enumerate(self.genes):
            columns.setdefault(gene.dimension, []).append(place)
        self.columns: dict[str, npt.NDArray[np.int64]] = {name: np.array(places) for name, places in columns.items()}
        """Columns of each dimension, first layer first."""
        self._coded = [
            (
                one.name,
                columns[one.name][0],
                columns[one.name][-1] + 1,
                (0, *self._choices[one.name]),
                space.max_layers(one) // space.most_choices(one),
            )
            for one in space.dimensions
        ]
        """Each dimension's name, its columns from and to, its values by gene, and the layers that one gene is of."""
        self._drawn = [
            (one, columns[one.name], [self._choices[one.name].index(choice) + 1 for choice in space[one.name]])
            for one in sorted(space.dimensions, key=_turn)
        ]
        """Each dimension with its columns and its genes, in the order of `child`'s draws."""

    def layered(self, side: str) -> list[str]:
        """Return the names of a side's dimensions that have a gene for each layer."""
        if self.space.alike_layers:
            return []
        return [one.name for one in self.space.dimensions if one.per_layer and one.side == side]

    # translation

    def encode(self, architectures: Sequence[Architecture]) -> Rows:
        """Return canonical rows; every architecture must lie inside the space."""
        rows = np.zeros((len(architectures), len(self.genes)), dtype=self.dtype)
        known = [(one, self._numbers[one.name], self.columns[one.name][0]) for one in self.space.dimensions]
        for row, architecture in zip(rows, architectures, strict=True):
            for dimension, numbers, first in known:
                values = choices_of(architecture, dimension)[: self.space.most_choices(dimension)]
                # a capped value, such as cross layers cut to the encoder's depth, stands for the next choice above it
                row[first : first + len(values)] = [bisect_left(numbers, dimension.number(one)) + 1 for one in values]
        return rows

    def decode(self, row: Sequence[int] | Rows) -> Architecture:
        """Return the architecture of a row; genes of layers that do not exist are passed over. A list is fastest."""
        values = {name: [of[gene] for gene in row[first:end]] * layers for name, first, end, of, layers in self._coded}
        return build(values, self.space.qkv_dim)

    def decoded(self, rows: Rows) -> "GeneArchitectures":
        """Return the architectures of canonical rows (N, G); each is made when one looks at it."""
        return GeneArchitectures(self, rows)

    def shapes(self, rows: Rows) -> Shapes:
        """Return the shapes of the architectures of canonical rows (N, G)."""
        columns = {name: np.array((0, *self._numbers[name]))[rows[:, self.columns[name]]] for name in self._numbers}
        if self.space.alike_layers:
            for one in self.space.dimensions:
                if one.per_layer:
                    exists = np.arange(self.space.max_layers(one)) < columns[one.depths]
                    columns[one.name] = columns[one.name] * exists
        for one in self.space.dimensions:
            if one.capped_by:
                columns[one.name] = np.minimum(columns[one.name], columns[one.capped_by])
        if CELLS in columns:
            columns[SELF_HEADS] = np.where(columns[CELLS] == _SSRU, 1, columns[SELF_HEADS])
        for one in self.space.dimensions:
            if not one.per_layer:
                columns[one.name] = columns[one.name][:, 0]
        return Shapes(columns)

    def canonical(self, rows: Rows) -> Rows:
        """Return rows (N, G) without genes of layers that do not exist, and with each value capped as networks do."""
        rows = rows.copy()
        for one in self.space.dimensions:
            columns = self.columns[one.name]
            if one.per_layer:
                rows[:, columns] *= np.arange(len(columns)) < self._depths(rows, one.depths)
            if one.capped_by:
                numbers = self._numbers[one.name]
                most = np.minimum(np.searchsorted(numbers, self._depths(rows, one.capped_by)) + 1, len(numbers))
                rows[:, columns] = np.minimum(rows[:, columns], most.astype(self.dtype))
        if CELLS in self.columns and "ssru" in self._choices[CELLS]:  # without self-attention there are no heads
            ssru = rows[:, self.columns[CELLS]] == self._choices[CELLS].index("ssru") + 1
            heads = rows[:, self.columns[SELF_HEADS]]
            rows[:, self.columns[SELF_HEADS]] = np.where(ssru, 1, heads)
        return rows

    def _depths(self, rows: Rows, depths: str) -> npt.NDArray[np.int64]:
        """Return the number of layers of each row, (N, 1)."""
        return np.array(self._numbers[depths])[rows[:, self.columns[depths][:1]] - 1]

    def all(self) -> list[Architecture]:
        """Return every architecture of the space: only for spaces whose `size` is small."""
        found: dict[Architecture, None] = {}
        places = [int(self.columns[f"{side}_depths"][0]) for side in ("encoder", "decoder")]
        for depths in product(*(range(1, self.sizes[place] + 1) for place in places)):
            full = np.ones((1, len(self.genes)), dtype=self.dtype)
            full[0, places] = depths
            free = self.canonical(full)[0] > 0
            free[places] = False
            choices = [range(1, size + 1) if is_free else (1,) for size, is_free in zip(self.sizes, free, strict=True)]
            for place, depth in zip(places, depths, strict=True):
                choices[place] = (depth,)
            for row in product(*choices):
                found.setdefault(self.decode(row))
        return list(found)

    # one child at a time

    def random_row(self, rng: random.Random) -> list[int]:
        """Return HAT's genes: every layer has some, also those past the depth."""
        return [1 + rng.randrange(size) for size in self.sizes]

    def child(self, parents: Sequence[Architecture], rng: random.Random, probability: float = 0.0) -> Architecture:
        """Return an architecture with each gene from a random parent that has it, drawn anew with `probability`.

        A layer that no parent has is drawn uniformly.
        """
        rows = self.encode(parents).tolist()
        row = [0] * len(self.genes)
        for dimension, places, genes in self._drawn:
            count = self._depth(row, dimension.depths) if dimension.per_layer else 1
            for place in places[:count]:
                known = [parent[place] for parent in rows if parent[place]]
                if known:
                    row[place] = rng.choice(known)
                if not known or (probability and rng.random() < probability):
                    row[place] = rng.choice(genes)
        return self.decode(row)

    def _depth(self, row: Sequence[int], depths: str) -> int:
        gene = row[int(self.columns[depths][0])]
        return self._numbers[depths][gene - 1]

    # many children at once

    def filled(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Return rows with a random choice where a layer does not exist, for a child that may be deeper."""
        return np.where(rows == 0, self.random_rows(len(rows), rng), rows).astype(self.dtype)

    def random_rows(self, count: int, rng: np.random.Generator) -> Rows:
        """Return uniform genes for all layers, not canonical: (count, G)."""
        return rng.integers(1, self.sizes + 1, size=(count, len(self.genes)), dtype=self.dtype)

    def mutated(self, rows: Rows, probabilities: npt.NDArray[np.float64], rng: np.random.Generator) -> Rows:
        """Return rows (N, G) in canonical form, each gene drawn anew with its row's probability (N,)."""
        change = rng.random(rows.shape) < probabilities[:, None]
        full = self.filled(rows, rng)
        return self.canonical(np.where(change, self.random_rows(len(rows), rng), full).astype(self.dtype))

    def crossed(self, first: Rows, second: Rows, rng: np.random.Generator) -> Rows:
        """Return a child for each pair of rows (N, G): each gene from either; a layer that one lacks from the other."""
        other = np.where(second == 0, first, second)
        own = np.where(first == 0, second, first)
        return np.where(rng.random(first.shape) < 0.5, own, other).astype(self.dtype)

    def bred(
        self,
        first: Rows,
        second: Rows,
        crosses: npt.NDArray[np.bool_],
        chances: Sequence[float],
        rng: np.random.Generator,
    ) -> Rows:
        """Return a canonical child for each pair of rows (N, G): of both where it `crosses` (N,), else of the first.

        Each is mutated with one of the `chances`.
        """
        rows = np.where(crosses[:, None], self.crossed(first, second, rng), first)
        return self.mutated(rows, rng.choice(chances, size=len(rows)), rng)


class GeneArchitectures(ShapedArchitectures):
    """The architectures of gene rows."""

    def __init__(self, code: GeneCode, rows: Rows) -> None:
        self._code, self._rows = code, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Architecture: ...
    @overload
    def __getitem__(self, place: slice) -> "GeneArchitectures": ...
    def __getitem__(self, place: int | slice) -> "Architecture | GeneArchitectures":
        if isinstance(place, slice):
            return GeneArchitectures(self._code, self._rows[place])
        return self._code.decode(self._rows[place].tolist())

    def __iter__(self) -> Iterator[Architecture]:
        return map(self._code.decode, self._rows.tolist())

    @cached_property
    def shapes(self) -> Shapes:
        return self._code.shapes(self._rows)

    def places_of(self, wanted: Collection[Architecture]) -> list[tuple[int, Architecture]]:
        inside = [one for one in wanted if self._code.space.contains(one)]
        known = dict(zip(map(bytes, self._code.encode(inside)), inside, strict=True))
        found = [(place, known.get(bytes(row))) for place, row in enumerate(self._rows)]
        return [(place, one) for place, one in found if one is not None]


def _turn(dimension: Dimension) -> int:
    """Return a dimension's place among `child`'s draws; those that are equal follow the table."""
    return _DRAWN_FIRST.index(dimension.name) if dimension.name in _DRAWN_FIRST else len(_DRAWN_FIRST)
