"""Regions of an embedding's space, by their nearest centroid, under whose names outcomes are remembered. Pure.

Promises: the same head gives the same clusters with the same names, on every replica and after every start; a name
tells whose clusters are meant, so that those of two heads are never mixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classifier.head import Head

__all__ = ["BUILTIN_CLUSTERS_MAX", "Clusters", "builtin_clusters", "cluster_name", "split_name"]

# About 16 examples each, with the built-in head's 535.
BUILTIN_CLUSTERS_MAX = 32
EXAMPLES_PER_CLUSTER = 8
ROUNDS_MAX = 25

Floats = npt.NDArray[np.float64]


def cluster_name(version: str, index: int) -> str:
    """Of one cluster, e.g. "builtin-1/17"."""
    return f"{version}/{index}"


def split_name(name: str) -> tuple[str, int] | None:
    """The version and the index in a name that `cluster_name` made; None for any other text."""
    version, slash, digits = name.rpartition("/")
    if not slash or not digits.isascii() or not digits.isdigit() or len(digits) > len("1024"):
        return None
    index = int(digits)
    return (version, index) if cluster_name(version, index) == name else None


@dataclass(frozen=True, slots=True)
class Clusters:
    """Unit centroids [count, dimensions] of one version; must not be written to."""

    version: str
    centroids: Floats

    def __len__(self) -> int:
        return len(self.centroids)

    def name(self, vector: npt.NDArray[np.float32]) -> str:
        """The cluster of a unit vector [dimensions]; of equally near ones the first."""
        return cluster_name(self.version, int(np.argmax(self.centroids @ vector)))


def _spread_rows(rows: Floats, count: int) -> Floats:
    """Rows far from each other: the one nearest to the mean, then always the one furthest from those chosen."""
    chosen = [int(np.argmax(rows @ rows.mean(axis=0)))]
    nearest = rows @ rows[chosen[0]]
    while len(chosen) < count:
        chosen.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, rows @ rows[chosen[-1]])
    return rows[chosen]


def builtin_clusters(head: Head) -> Clusters:
    """Spherical k-means over the head's examples; no randomness. About 10 ms for 535 examples."""
    rows = head.examples
    centres = _spread_rows(rows, max(1, min(BUILTIN_CLUSTERS_MAX, len(rows) // EXAMPLES_PER_CLUSTER)))
    labels = np.full(len(rows), -1)
    for _ in range(ROUNDS_MAX):
        found = np.argmax(rows @ centres.T, axis=1)
        if (found == labels).all():
            break
        labels = found
        members = (labels == np.arange(len(centres))[:, None]).astype(np.float64)
        sums = members @ rows
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        # A centre that no example is nearest to stays where it was: the names of the others do not move up.
        centres = np.where(lengths > 1e-9, sums / np.maximum(lengths, 1e-9), centres)
    return Clusters(head.version, centres)
