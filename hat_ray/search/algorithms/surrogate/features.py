"""Inputs of the linear model of the loss: genes, pairs of genes that meet, and counts over the layers.

Every feature is 0 or 1, or a share of layers. They are in groups, because a model believes more readily in an effect
of the depth than in one of two neighbouring layers' widths; how readily, it learns.
"""

from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

from hat_ray.space.genes import GeneCode, Rows

FloatArray = npt.NDArray[np.float64]

GROUPS = ("constant", "whole", "count", "count by whole", "layer", "pair")


class GeneFeatures:
    """Turns gene rows (N, G) into features (N, P)."""

    def __init__(self, code: GeneCode) -> None:
        self._code = code
        genes = code.genes
        self._whole = [place for place, gene in enumerate(genes) if gene.layer is None]
        self._pairs = np.array(_pairs(code), dtype=np.int64).reshape(-1, 2)
        sizes = code.sizes
        cells = [int(sizes[a] * sizes[b]) for a, b in self._pairs]
        self._gene_starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
        self._pair_starts = int(sizes.sum()) + np.concatenate([[0], np.cumsum(cells)])[:-1].astype(np.int64)
        self._cells = int(sizes.sum()) + sum(cells)
        self._counts = [
            (code.columns[name], value)
            for name in (*code.layered("encoder"), *code.layered("decoder"))
            for value in range(1, int(sizes[code.columns[name][0]]) + 1)
        ]
        self._whole_cells = np.concatenate(
            [np.arange(int(sizes[place])) + self._gene_starts[place] for place in self._whole]
        ).astype(np.int64)
        self.groups = self._group_of_each()
        """Place in `GROUPS` of each feature, (P,)."""

    def _group_of_each(self) -> npt.NDArray[np.int64]:
        genes, sizes = self._code.genes, self._code.sizes
        cells = [GROUPS.index("whole" if gene.layer is None else "layer") for gene in genes]
        by_gene = np.repeat(cells, sizes)
        whole_pair = [all(genes[place].layer is None for place in pair) for pair in self._pairs]
        pairs = [GROUPS.index("whole" if both else "pair") for both in whole_pair]
        by_pair = np.repeat(pairs, [int(sizes[a] * sizes[b]) for a, b in self._pairs])
        counts = [GROUPS.index("count")] * len(self._counts)
        by_whole = [GROUPS.index("count by whole")] * (len(self._counts) * len(self._whole_cells))
        return np.concatenate([by_gene, by_pair, counts, by_whole, [GROUPS.index("constant")]]).astype(np.int64)

    def __call__(self, rows: Rows) -> FloatArray:
        """Return features (N, P) of canonical rows (N, G)."""
        rows = rows.astype(np.int64)
        cells = np.zeros((len(rows), self._cells + 1))  # the last one takes what does not exist
        each = np.arange(len(rows))[:, None]
        cells[each, np.where(rows > 0, self._gene_starts + rows - 1, self._cells)] = 1.0
        first, second = rows[:, self._pairs[:, 0]], rows[:, self._pairs[:, 1]]
        places = self._pair_starts + (first - 1) * self._code.sizes[self._pairs[:, 1]] + second - 1
        cells[each, np.where((first > 0) & (second > 0), places, self._cells)] = 1.0
        shares = [(rows[:, columns] == value).mean(axis=1) for columns, value in self._counts]
        counts = np.stack(shares, axis=1) if shares else np.zeros((len(rows), 0))  # where layers are alike
        by_whole = counts[:, :, None] * cells[:, None, self._whole_cells]
        return np.concatenate(
            [
                cells[:, :-1],
                counts,
                by_whole.reshape(len(rows), counts.shape[1] * len(self._whole_cells)),
                np.ones((len(rows), 1)),
            ],
            axis=1,
        )


def _pairs(code: GeneCode) -> list[tuple[int, int]]:
    """Return the pairs of columns that meet: of the whole network, of a layer, of a dimension in adjacent layers."""
    whole = [place for place, gene in enumerate(code.genes) if gene.layer is None]
    found = list(combinations(whole, 2))
    for names in filter(None, (code.layered("encoder"), code.layered("decoder"))):
        for layer in range(len(code.columns[names[0]])):
            found += combinations([int(code.columns[name][layer]) for name in names], 2)
        for name in names:
            found += pairwise(code.columns[name].tolist())
    free = code.sizes > 1
    return [(a, b) for a, b in found if free[a] and free[b]]
