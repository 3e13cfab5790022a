from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.quality.near_duplicates import near_duplicate_of
from resight.splits import duplicates
from resight.types import Annotation

from ..made_up import annotation


def with_rule(name: str, rule: str | None, **changes: Any) -> Annotation:
    return dataclasses.replace(annotation(name, **changes), filtered=rule)


def naive_near_duplicates(
    mine: list[Annotation], prints: dict[str, tuple[int, float]], limit: int = 6, copies: int = 2
) -> dict[str, str]:
    """Taken in order, each that is free stands for all later ones that are free and near."""
    order = sorted(
        (one for one in mine if one.annotation_id in prints),
        key=lambda one: (
            not one.allowed or one.image_status == "quarantined" or one.filtered not in (None, "near_duplicates one"),
            one.individual is None,
            -prints[one.annotation_id][1],
            one.annotation_id,
        ),
    )
    found: dict[str, str] = {}
    for place, one in enumerate(order):
        if one.annotation_id in found:
            continue
        for other in order[place + 1 :]:
            bits = (prints[one.annotation_id][0] ^ prints[other.annotation_id][0]).bit_count()
            names = {one.individual, other.individual} - {None}
            together = one.encounter == other.encounter or (None not in (one.individual, other.individual))
            if (
                other.annotation_id not in found
                and one.species == other.species
                and one.image_id != other.image_id
                and len(names) < 2
                and bits <= (limit if together else copies)
            ):
                found[other.annotation_id] = one.annotation_id
    return found


@settings(max_examples=80)
@given(st.integers(0, 2**32), st.integers(0, 60))
def test_near_duplicates_agree_with_comparing_every_two(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    prints, mine = {}, []
    for number in range(n):
        key = f"{rng.integers(1000)}-{number}"
        mine.append(
            with_rule(
                key,
                (None, None, "min_side_px 60", "near_duplicates one")[rng.integers(4)],
                image_id=int(rng.integers(40)),
                species=(None, "zebra", "lion")[rng.integers(3)],
                individual=(None, None, "a", "b")[rng.integers(4)],
                encounter=f"e{rng.integers(4)}",
                allowed=bool(rng.random() < 0.9),
            )
        )
        centre = (0xF0F0_F0F0_F0F0_F0F0, 0x1234_5678_9ABC_DEF0)[rng.integers(2)]
        flips = sum(1 << int(bit) for bit in rng.choice(64, rng.integers(5), replace=False))
        if rng.random() < 0.9:
            prints[key] = (centre ^ flips, float(rng.integers(5)))
    assert near_duplicate_of(mine, prints) == naive_near_duplicates(mine, prints)


def test_a_chain_of_frames_is_not_one_picture() -> None:
    # Each differs in 3 bits from the one before: the first stands for the next two, the fourth is another picture.
    chain = [(1 << (3 * step)) - 1 for step in range(6)]
    mine = [annotation(f"{step}", image_id=step, individual=None, encounter="e") for step in range(6)]
    prints = {f"{step}": (chain[step], 50.0 - step) for step in range(6)}
    assert near_duplicate_of(mine, prints) == {"1": "0", "2": "0", "4": "3", "5": "3"}


def test_no_name_is_lost_for_a_sharper_picture_without_one() -> None:
    mine = [
        annotation("sharp", image_id=1, individual=None, encounter="e"),
        annotation("named", image_id=2, individual="a", encounter="e"),
        annotation("other", image_id=3, individual="b", encounter="e"),
        annotation("same photo", image_id=2, individual=None, encounter="e"),
        with_rule("small", "min_side_px 60", image_id=4, individual="a", encounter="e"),
    ]
    prints = {one.annotation_id: (0, 90.0 if one.annotation_id in ("sharp", "small") else 20.0) for one in mine}
    assert near_duplicate_of(mine, prints) == {"sharp": "named", "small": "named", "same photo": "other"}


def test_thousands_of_blank_pictures_are_one() -> None:
    mine = [annotation(f"{number:05}", image_id=number, individual=None) for number in range(20_000)]
    found = near_duplicate_of(mine, {one.annotation_id: (0, 0.0) for one in mine})
    assert len(found) == 19_999
    assert set(found.values()) == {"00000"}


@pytest.mark.parametrize("limit", [0, 3, 6])
@pytest.mark.parametrize("n", [0, 1, 50, 700])
def test_all_pairs_are_found_by_pieces_as_by_comparing_all(n: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(n)
    # Near to a few centres, and many twice: pairs that share one piece, several, and all of them.
    centres = rng.integers(2**64, size=5, dtype=np.uint64)
    flips = np.array(
        [sum(1 << int(bit) for bit in rng.choice(64, rng.integers(5))) % 2**64 for _ in range(n)], np.uint64
    )
    hashes = centres[rng.integers(5, size=n)] ^ flips
    values = hashes.tolist()
    expected = {
        (i, j, (values[i] ^ values[j]).bit_count())
        for j in range(n)
        for i in range(j)
        if (values[i] ^ values[j]).bit_count() <= limit
    }
    for most in (0, 10_000):
        monkeypatch.setattr(duplicates, "_DENSE", most)
        monkeypatch.setattr(duplicates, "_BLOCK", 16)
        found = [pair for i, j, bits in duplicates.alike(hashes, limit) for pair in zip(i, j, bits, strict=True)]
        assert len(found) == len(expected)
        assert {tuple(map(int, pair)) for pair in found} == expected
