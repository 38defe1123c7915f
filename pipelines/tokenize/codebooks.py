"""Codebooks as fitted, which give new vectors their codes.

A vector passes through affine layers (none for residual k-means and product quantization, a rotation for its
optimized form, the encoder of RQ-VAE) and is then quantized digit by digit: each digit takes the code whose
centroid is nearest to what the digits before it leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines import artifacts
from pipelines.errors import UserError

BLOCK = 1 << 23  # distances that are computed at once
LAYER, CENTROIDS = "layer", "centroids"  # parts of the artifact
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Codebooks:
    """What a method needs to give a vector its codes.

    Attributes:
        centroids: float32 [≤ V, W] for each digit.
        layers: float32 [outputs, inputs + 1] for each affine layer, its bias in the last column; ReLU is
            between the layers.
        unit_residuals: compare directions: the residual is scaled to unit length, and the centroid back.
    """

    centroids: list[np.ndarray]
    layers: list[np.ndarray] = field(default_factory=list)
    unit_residuals: bool = False

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors [n, D] after the layers, float32 [n, W]."""
        for number, layer in enumerate(self.layers):
            vectors = np.maximum(vectors, 0) if number else vectors
            vectors = vectors @ layer[:, :-1].T + layer[:, -1]
        return vectors.astype(np.float32, copy=False)

    def quantize(self, vectors: np.ndarray) -> np.ndarray:
        """Return the codes of vectors [n, D], int64 [n, m].

        Apart from the layers, the codes of a vector do not depend on the other vectors.
        """
        residuals = self.encode(vectors).copy()  # [n, W]
        codes = np.zeros((len(vectors), len(self.centroids)), np.int64)
        for digit in range(len(self.centroids)):
            codes[:, digit] = self._nearest(residuals, digit)
            residuals = self.residuals(residuals, digit, codes[:, digit])
        return codes

    def paths(self, vector: np.ndarray) -> Iterator[tuple[int, ...]]:
        """Yield the codes of all digits for a vector [D], nearest first: the last digit changes before the
        others.
        """
        yield from self._paths(self.encode(vector[None]), 0)

    def residuals(self, residuals: np.ndarray, digit: int, codes: np.ndarray) -> np.ndarray:
        """Return what remains of residuals [n, W] after a digit.

        Args:
            codes: int [n].
        """
        chosen = self.centroids[digit][codes]  # [n, W]
        return residuals - (self._lengths(residuals) * chosen if self.unit_residuals else chosen)

    def _paths(self, residual: np.ndarray, digit: int) -> Iterator[tuple[int, ...]]:
        if digit == len(self.centroids):
            yield ()
            return
        for code in np.argsort(self._distances(residual, digit)[0], kind="stable"):
            left = self.residuals(residual, digit, np.array([code]))
            for rest in self._paths(left, digit + 1):
                yield int(code), *rest

    def _nearest(self, residuals: np.ndarray, digit: int) -> np.ndarray:
        """Return the code of the nearest centroid of each residual, int64 [n]."""
        size = max(1, BLOCK // len(self.centroids[digit]))
        blocks = [residuals[start : start + size] for start in range(0, len(residuals), size)]
        nearest = [self._distances(block, digit).argmin(axis=1) for block in blocks]
        return np.concatenate(nearest) if nearest else np.zeros(0, np.int64)

    def _distances(self, residuals: np.ndarray, digit: int) -> np.ndarray:
        """Return the distances of residuals from all centroids, float32 [n, ≤ V].

        Each distance is computed alone: a matrix product rounds differently with the number of residuals.
        """
        import torch  # takes a second; only new items need it

        pair = torch.tensor(self.directions(residuals)), torch.tensor(self.centroids[digit])
        distances: np.ndarray = torch.cdist(*pair, compute_mode="donot_use_mm_for_euclid_dist").numpy()
        return distances

    def directions(self, residuals: np.ndarray) -> np.ndarray:
        """Return what is compared with the centroids: residuals [n, W], of unit length if so configured."""
        return residuals / self._lengths(residuals) if self.unit_residuals else residuals

    def _lengths(self, residuals: np.ndarray) -> np.ndarray:
        """Return the lengths of residuals, at least the smallest float32, [n, 1]."""
        return np.maximum(np.linalg.norm(residuals, axis=1, keepdims=True), TINY)

    def table(self) -> pa.Table:
        """Return the codebooks as an artifact of kind "codebooks"; see `read`."""
        parts = [(LAYER, matrix) for matrix in self.layers] + [(CENTROIDS, c) for c in self.centroids]
        numbers = [*range(len(self.layers)), *range(len(self.centroids))]
        rows = [len(matrix) for _, matrix in parts]
        widths = np.repeat([matrix.shape[1] for _, matrix in parts], rows)
        offsets = pa.array(np.concatenate([[0], np.cumsum(widths)]), pa.int32())
        flat = np.concatenate([np.asarray(matrix, np.float32).reshape(-1) for _, matrix in parts])
        return pa.table(
            {
                "part": pa.array(np.repeat([name for name, _ in parts], rows).tolist(), pa.string()),
                "digit": pa.array(np.repeat(numbers, rows), pa.int32()),
                "code": pa.array(np.concatenate([np.arange(count) for count in rows]), pa.int32()),
                "vector": pa.ListArray.from_arrays(offsets, pa.array(flat)),
            }
        )

    @staticmethod
    def read(path: Path, unit_residuals: bool) -> Codebooks:
        """Read codebooks.

        The artifact has a row for each row of a matrix: with part "centroids" the centroid of a code of a
        digit, with part "layer" an output of a layer, whose number stands in the column digit.

        Raises:
            UserError: the file is missing or unreadable, or its matrices do not fit each other.
        """
        hint = "Run `maskgr tokenize --force`."
        table = artifacts.read(path, "codebooks", hint=hint)
        part, digit = np.array(table["part"].to_pylist()), table["digit"].to_numpy()
        matrices: dict[str, list[np.ndarray]] = {LAYER: [], CENTROIDS: []}
        try:
            for name, found in matrices.items():
                for number in range(digit[part == name].max(initial=-1) + 1):
                    rows = table.filter((part == name) & (digit == number))
                    if not np.array_equal(rows["code"].to_numpy(), np.arange(len(rows))):
                        raise ValueError("codes that do not count 0, 1, 2, …")
                    flat = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
                    found.append(flat.reshape(len(rows), -1))
            books = Codebooks(matrices[CENTROIDS], matrices[LAYER], unit_residuals)
            widths = {matrix.shape[1] for matrix in books.centroids}
            inputs = [matrix.shape[1] - 1 for matrix in books.layers[1:]]
            outputs = [len(matrix) for matrix in books.layers]
            if len(widths) != 1 or outputs != [*inputs, *widths][: len(outputs)]:
                raise ValueError("matrices of different widths")
        except ValueError as error:
            raise UserError(f"{path} holds no codebooks ({error}). {hint}") from None
        return books
