"""Models of an ensemble without networks: names, passports and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from resight.artefacts import Passport
from resight.embedding import EmbeddingSet
from resight.ensemble.joint import Member


def member(name: str, dim: int = 3, **decides: Any) -> Member:
    """A model of this name, whose weights are its own."""
    return Member(name, Passport("embeddings", {"weights_hash": f"w-{name}", "dim": dim, **decides}))


def vectors_of(name: str, ids: list[str], rows: Any) -> EmbeddingSet:
    """Vectors by a model; each is of the chip ``MODEL-ID``."""
    return EmbeddingSet(name, tuple(ids), tuple(f"{name}-{one}" for one in ids), np.asarray(rows, np.float16))
