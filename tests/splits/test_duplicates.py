from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.splits import duplicates, make_split, near_duplicates, to_compare, with_near_duplicates
from resight.splits.frozen import DuplicateCounts, SplitMember

from .drawn import population

EVEN = 0xF0F0_F0F0_F0F0_F0F0


def flipped(number: int, n_bits: int) -> int:
    """The hash with its ``n_bits`` highest bits turned over."""
    return number ^ (((1 << n_bits) - 1) << (64 - n_bits))


def member(key: str, encounter: str, subset="train", *, individual="a", species="zebra", side="") -> SplitMember:
    return SplitMember(key, species, individual, individual + side, encounter, subset)


def naive(members, hashes, limit):
    """Pairs by looking at every two members."""
    return {
        (a.annotation_id, b.annotation_id, (hashes[a.annotation_id] ^ hashes[b.annotation_id]).bit_count())
        for a in members
        for b in members
        if a.annotation_id < b.annotation_id
        and {a.annotation_id, b.annotation_id} <= hashes.keys()
        and (a.species, a.individual) == (b.species, b.individual)
        and a.encounter != b.encounter
        and (hashes[a.annotation_id] ^ hashes[b.annotation_id]).bit_count() <= limit
    }


@st.composite
def hashed_members(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    members, hashes = [], {}
    for number in range(draw(st.integers(0, 60))):
        key = f"{rng.permutation(100)[0]:02} {number}"
        subset = ("train", "test", "set_aside")[rng.integers(3)]
        species = ("zebra", "lion")[rng.integers(2)]
        members.append(member(key, f"e{rng.integers(6)}", subset, individual=f"{rng.integers(3)}", species=species))
        if rng.random() < 0.9:
            hashes[key] = flipped(int(rng.integers(2**64, dtype=np.uint64)) if rng.random() < 0.3 else EVEN,
                                  int(rng.integers(12)))  # fmt: skip
    return members, hashes


@pytest.mark.parametrize("block", [1, 7, 1024])
@settings(max_examples=40, deadline=None)
@given(drawn=hashed_members(), limit=st.integers(0, 10))
def test_it_agrees_with_comparing_every_two(block: int, drawn, limit: int) -> None:
    members, hashes = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        found = near_duplicates(members, hashes, limit=limit, listed=10_000)
        few = near_duplicates(members[::-1], hashes, limit=limit, listed=3)
    expected = naive(members, hashes, limit)
    assert {(*pair.annotation_ids, pair.distance) for pair in found.pairs} == expected
    assert (found.n_pairs, len(found.pairs)) == (len(expected), len(expected))
    assert few.pairs == found.pairs[:3]
    assert (few.n_pairs, few.species) == (found.n_pairs, found.species)
    of = {m.annotation_id: m for m in members}
    for counts in found.species:
        mine = [(of[a], of[b]) for a, b, _ in expected if of[a].species == counts.species]
        across = [pair for pair in mine if {m.subset for m in pair} == {"train", "test"}]
        assert counts.pairs == len(mine)
        assert counts.photos == len({m.annotation_id for pair in mine for m in pair})
        assert counts.individuals == len({m.individual for pair in mine for m in pair})
        assert counts.across == len({m.annotation_id for pair in across for m in pair})
    assert {counts.species for counts in found.species} == {of[a].species for a, _, _ in expected}
    assert found.compared + found.not_read == len(to_compare(members))


def test_by_hand() -> None:
    members = [
        member("1", "monday"),
        member("2", "monday"),  # the same encounter: no matter how alike
        member("3", "tuesday", "test"),
        member("4", "tuesday", "test"),
        member("5", "monday", individual="b"),  # another animal
        member("6", "monday", individual="b"),  # which has one encounter
        member("7", "wednesday", "set_aside", side="|left"),  # the other side, of the same animal
    ]
    hashes = {"1": EVEN, "2": EVEN, "3": flipped(EVEN, 6), "4": flipped(EVEN, 7), "5": EVEN, "6": EVEN, "7": EVEN}
    assert to_compare(members) == {"1", "2", "3", "4", "7"}
    found = near_duplicates(members, hashes, limit=6)
    assert [(p.annotation_ids, p.subsets, p.distance) for p in found.pairs] == [
        (("1", "3"), ("train", "test"), 6),
        (("2", "3"), ("train", "test"), 6),
        (("1", "7"), ("train", "set_aside"), 0),
        (("2", "7"), ("train", "set_aside"), 0),
        (("3", "7"), ("test", "set_aside"), 6),
    ]
    assert found.species == (DuplicateCounts("zebra", photos=4, individuals=1, across=3, pairs=5),)
    assert (found.compared, found.not_read) == (5, 0)


def test_the_split_warns_and_lists_what_was_found() -> None:
    split = make_split(population(10, 8), name="s", seed=0)
    rng = np.random.default_rng(0)
    hashes = {m.annotation_id: int(h) for m, h in zip(split.members, rng.integers(2**63, size=80), strict=False)}
    clean = with_near_duplicates(split, hashes)
    assert clean.warnings == split.warnings
    assert clean.near_duplicates is not None
    assert (clean.near_duplicates.n_pairs, clean.near_duplicates.compared) == (0, len(split.members))
    seen = next(m for m in split.members if m.subset == "test" and any(
        o.individual == m.individual and o.subset == "train" for o in split.members))  # fmt: skip
    twin = next(m for m in split.members if m.individual == seen.individual and m.subset == "train")
    hashes[twin.annotation_id] = flipped(hashes[seen.annotation_id], 2)
    gone = next(m for m in split.members if m.individual != seen.individual)
    del hashes[gone.annotation_id]
    found = with_near_duplicates(split, hashes)
    assert found.warnings == (
        *split.warnings,
        "zebra: 2 photos of 1 individuals are almost the same picture as one of another encounter, 2 of them across "
        "train and test",
        "1 photos could not be read, so nobody knows whether they are almost the same as others",
    )
    assert found.near_duplicates is not None
    (pair,) = found.near_duplicates.pairs
    assert set(pair.annotation_ids) == {seen.annotation_id, twin.annotation_id}
    assert pair.distance == 2
    assert found.members == split.members
