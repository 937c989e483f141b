"""Regions of the embedding's space, and their names."""

from __future__ import annotations

import numpy as np
import pytest

from services.classifier.clusters import BUILTIN_CLUSTERS_MAX, Clusters, builtin_clusters, cluster_name, split_name
from services.classifier.head import Head
from services.classifier.startup import BUILTIN_HEAD, open_head


@pytest.fixture(scope="module")
def head() -> Head:
    return open_head(BUILTIN_HEAD)


def test_a_head_has_the_same_clusters_each_time(head: Head) -> None:
    first, second = builtin_clusters(head), builtin_clusters(head)
    assert first.version == head.version
    assert np.array_equal(first.centroids, second.centroids)
    assert 2 <= len(first) <= BUILTIN_CLUSTERS_MAX


def test_clusters_are_of_some_size_and_hold_what_is_alike(head: Head) -> None:
    clusters = builtin_clusters(head)
    assert np.linalg.norm(clusters.centroids, axis=1) == pytest.approx(1.0)
    names = [clusters.name(row.astype(np.float32)) for row in head.examples]
    sizes = [names.count(name) for name in set(names)]
    assert len(sizes) == len(clusters)
    assert max(sizes) < len(names) / 4
    own = np.mean(np.max(head.examples @ clusters.centroids.T, axis=1))
    assert own > np.mean(head.examples @ clusters.centroids.mean(axis=0)) + 0.2


def test_a_vector_is_in_the_cluster_of_its_nearest_centroid() -> None:
    clusters = Clusters("v/1", np.eye(3))
    assert clusters.name(np.asarray([0.1, 0.9, 0.2], dtype=np.float32)) == "v/1/1"
    assert clusters.name(np.zeros(3, dtype=np.float32)) == "v/1/0"


@pytest.mark.parametrize("version", ["builtin-1", "a/b", ""])
def test_names_are_taken_apart_as_they_were_made(version: str) -> None:
    assert split_name(cluster_name(version, 17)) == (version, 17)


@pytest.mark.parametrize("name", ["", "a", "a/", "a/x", "a/01", "a/-1", "a/²", "a/1 ", "a/" + "9" * 5_000])
def test_other_names_are_nobodys(name: str) -> None:
    assert split_name(name) is None
