"""Shortlists drawn from known truths."""

from __future__ import annotations

import numpy as np

from resight.calibration.evidence import Candidates, Group, PairFeatures, Pairs

COW = Group("cow")


def drawn_pairs(
    *,
    n_identity=60,
    per_identity=4,
    k=10,
    groups=(COW,),
    shift=(0.0,),
    strength=4.0,
    local=False,
    seed=0,
    first_identity=0,
    matches=2,
):
    """Every query has ``matches`` photos of its animal among ``k`` candidates; the evidence of a pair is normal, with
    means ``strength`` standard deviations of 0.1 apart. ``shift`` moves the cosines of a group.
    """
    rng = np.random.default_rng(seed)
    n_query = n_identity * per_identity
    query = np.repeat(np.arange(n_query), k)
    identity = first_identity + query // per_identity
    group_of = identity % len(groups)
    same = np.tile(np.arange(k) < matches, n_query)
    cosine = 0.1 * rng.standard_normal(len(query)) + 0.1 * strength * same + np.resize(shift, len(groups))[group_of]
    other = first_identity + rng.integers(0, n_identity - 1, len(query))
    other += other >= identity
    name = np.where(same, identity, other)
    columns, names = [cosine], ("cosine",)
    if local:
        count = rng.poisson(np.where(same, 20, 6)).astype(float)
        looked = np.tile(np.arange(k) < 6, n_query)
        columns += [np.where(looked, 0.6 * count, np.nan), np.where(looked, count, np.nan)]
        names = ("cosine", "local_sum", "local_count")
    # Each pair is met once, so that every positive row is a confirmed pair.
    gallery = 10_000_000 + np.arange(len(query))
    return Pairs(
        Candidates(PairFeatures(names, np.stack(columns, axis=1)), query, name),
        same,
        gallery,
        identity,
        tuple(groups),
        group_of,
    )
