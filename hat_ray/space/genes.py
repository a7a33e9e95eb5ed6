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
from typing import overload

import numpy as np
import numpy.typing as npt

from hat_ray.space.architecture import Architecture, DecoderShape, EncoderShape
from hat_ray.space.features import ShapedArchitectures, Shapes
from hat_ray.space.search_space import SearchSpace

Rows = npt.NDArray[np.int8]
"""Gene rows, (N, G)."""

WHOLE_KINDS = ("encoder_embed_dims", "encoder_depths", "decoder_embed_dims", "decoder_depths")
ENCODER_KINDS = ("encoder_ffn_dims", "encoder_heads")
DECODER_KINDS = ("decoder_ffn_dims", "decoder_self_heads", "decoder_cross_heads", "decoder_cross_layers")


@dataclass(frozen=True)
class Gene:
    """One column: what it chooses, in which layer, among which values, smallest first."""

    kind: str
    layer: int | None
    """None: the whole encoder or decoder has this gene once."""
    choices: tuple[int, ...]


class GeneCode:
    """Translates between the architectures of a space and gene rows; breeds rows."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._choices = {kind: tuple(sorted(values)) for kind, values in space.dimensions().items()}
        genes = self._of_side("encoder", space.max_encoder_depth, ENCODER_KINDS)
        genes += self._of_side("decoder", space.max_decoder_depth, DECODER_KINDS)
        self.genes = tuple(genes)
        self.sizes: npt.NDArray[np.int64] = np.array([len(gene.choices) for gene in genes])
        """Choices of each gene, (G,)."""
        columns: dict[str, list[int]] = {}
        for place, gene in enumerate(genes):
            columns.setdefault(gene.kind, []).append(place)
        self.columns: dict[str, npt.NDArray[np.int64]] = {kind: np.array(places) for kind, places in columns.items()}
        """Columns of each kind, first layer first."""
        self._coded = {
            side: [
                (int(self.columns[kind][0]), (0, *self._choices[kind]))
                for kind in (f"{side}_embed_dims", f"{side}_depths", *kinds)
            ]
            for side, kinds in (("encoder", ENCODER_KINDS), ("decoder", DECODER_KINDS))
        }
        """By side: each kind's first column, and its values by gene."""

    def _of_side(self, side: str, depth: int, kinds: Sequence[str]) -> list[Gene]:
        whole = [Gene(kind, None, self._choices[kind]) for kind in (f"{side}_embed_dims", f"{side}_depths")]
        return whole + [Gene(kind, layer, self._choices[kind]) for kind in kinds for layer in range(depth)]

    # translation

    def encode(self, architectures: Sequence[Architecture]) -> Rows:
        """Return canonical rows; every architecture must lie inside the space."""
        rows = np.zeros((len(architectures), len(self.genes)), dtype=np.int8)
        for row, architecture in zip(rows, architectures, strict=True):
            e, d = architecture.encoder, architecture.decoder
            for kind, values in (
                ("encoder_embed_dims", (e.embed_dim,)),
                ("encoder_depths", (e.depth,)),
                ("encoder_ffn_dims", e.ffn_dims),
                ("encoder_heads", e.heads),
                ("decoder_embed_dims", (d.embed_dim,)),
                ("decoder_depths", (d.depth,)),
                ("decoder_ffn_dims", d.ffn_dims),
                ("decoder_self_heads", d.self_heads),
                ("decoder_cross_heads", d.cross_heads),
                ("decoder_cross_layers", d.cross_layers),
            ):
                choices, first = self._choices[kind], self.columns[kind][0]
                # a reach that was cut to the encoder's depth stands for the next choice above it
                row[first : first + len(values)] = [bisect_left(choices, value) + 1 for value in values]
        return rows

    def decode(self, row: Sequence[int] | Rows) -> Architecture:
        """Return the architecture of a row; genes of layers that do not exist are passed over. A list is fastest."""
        enc_width, enc_depth, *enc = self._coded["encoder"]
        dec_width, dec_depth, *dec = self._coded["decoder"]
        encoder = [_chosen(row, kind, _chosen(row, enc_depth)[0]) for kind in enc]
        decoder = [_chosen(row, kind, _chosen(row, dec_depth)[0]) for kind in dec]
        return Architecture(
            EncoderShape(_chosen(row, enc_width)[0], encoder[0], encoder[1]),
            DecoderShape(_chosen(row, dec_width)[0], *decoder),
            self.space.qkv_dim,
        )

    def decoded(self, rows: Rows) -> "GeneArchitectures":
        """Return the architectures of canonical rows (N, G); each is made when one looks at it."""
        return GeneArchitectures(self, rows)

    def shapes(self, rows: Rows) -> Shapes:
        """Return the shapes of the architectures of canonical rows (N, G)."""
        columns = {
            kind: np.array((0, *choices))[rows[:, self.columns[kind]]] for kind, choices in self._choices.items()
        }
        for kind in WHOLE_KINDS:
            columns[kind] = columns[kind][:, 0]
        reach, depths = columns["decoder_cross_layers"], columns["encoder_depths"]
        columns["decoder_cross_layers"] = np.minimum(reach, depths[:, None])
        return Shapes(**columns)

    def canonical(self, rows: Rows) -> Rows:
        """Return rows (N, G) without genes of layers that do not exist, and with each reach cut as networks cut it."""
        rows = rows.copy()
        for side, kinds in (("encoder", ENCODER_KINDS), ("decoder", DECODER_KINDS)):
            depths = np.array(self._choices[f"{side}_depths"])[rows[:, self.columns[f"{side}_depths"][0]] - 1]  # (N,)
            for kind in kinds:
                columns = self.columns[kind]
                rows[:, columns] *= np.arange(len(columns)) < depths[:, None]
        encoder_depths = rows[:, self.columns["encoder_depths"][0]] - 1
        reaches = self._choices["decoder_cross_layers"]
        most = [
            min(bisect_left(reaches, depth) + 1, len(reaches)) for depth in self._choices["encoder_depths"]
        ]  # (encoder depths,)
        columns = self.columns["decoder_cross_layers"]
        rows[:, columns] = np.minimum(rows[:, columns], np.array(most, dtype=np.int8)[encoder_depths][:, None])
        return rows

    def all(self) -> list[Architecture]:
        """Return every architecture of the space: only for spaces whose `size` is small."""
        found: dict[Architecture, None] = {}
        for depths in product(range(1, self._count("encoder_depths") + 1), range(1, self._count("decoder_depths") + 1)):
            full = np.ones((1, len(self.genes)), dtype=np.int8)
            places = [int(self.columns[f"{side}_depths"][0]) for side in ("encoder", "decoder")]
            full[0, places] = depths
            free = self.canonical(full)[0] > 0
            free[places] = False
            choices = [range(1, size + 1) if is_free else (1,) for size, is_free in zip(self.sizes, free, strict=True)]
            for place, depth in zip(places, depths, strict=True):
                choices[place] = (depth,)
            for row in product(*choices):
                found.setdefault(self.decode(row))
        return list(found)

    def _count(self, kind: str) -> int:
        return len(self._choices[kind])

    # HAT's genes, one child at a time: a row in which every layer has its genes, also those past the depth

    def random_row(self, rng: random.Random) -> list[int]:
        return [1 + rng.randrange(size) for size in self.sizes]

    # many children at once

    def filled(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Return rows with a random choice where a layer does not exist, for a child that may be deeper."""
        return np.where(rows == 0, self.random_rows(len(rows), rng), rows).astype(np.int8)

    def random_rows(self, count: int, rng: np.random.Generator) -> Rows:
        """Return uniform genes for all layers, not canonical: (count, G)."""
        return rng.integers(1, self.sizes + 1, size=(count, len(self.genes)), dtype=np.int8)

    def mutated(self, rows: Rows, probabilities: npt.NDArray[np.float64], rng: np.random.Generator) -> Rows:
        """Return rows (N, G) in canonical form, each gene drawn anew with its row's probability (N,)."""
        change = rng.random(rows.shape) < probabilities[:, None]
        full = self.filled(rows, rng)
        return self.canonical(np.where(change, self.random_rows(len(rows), rng), full).astype(np.int8))

    def crossed(self, first: Rows, second: Rows, rng: np.random.Generator) -> Rows:
        """Return a child for each pair of rows (N, G): each gene from either; a layer that one lacks from the other."""
        other = np.where(second == 0, first, second)
        own = np.where(first == 0, second, first)
        return np.where(rng.random(first.shape) < 0.5, own, other).astype(np.int8)

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


def _chosen(row: Sequence[int] | Rows, kind: tuple[int, tuple[int, ...]], layers: int = 1) -> tuple[int, ...]:
    first, values = kind
    return tuple([values[gene] for gene in row[first : first + layers]])
