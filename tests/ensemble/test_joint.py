"""Joint vectors: their cosine is the models' cosines, each times its share."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.ensemble.joint import OTHER_SPECIES, Ensemble
from resight.errors import InputError
from resight.ranking import unit_rows

from ..made_up import HashingModel
from .made_models import member, vectors_of


def ensemble(*slopes: float, dims: tuple[int, ...] = (3, 5), **more: Any) -> Ensemble:
    members = tuple(member(name, dim) for name, dim in zip("abcd", dims, strict=False))
    return Ensemble(members, {"zebra": slopes, **more}, (1.0,) * len(dims), ("s",))


def cosine(vectors: Any, one: int, other: int) -> float:
    unit = unit_rows(np.asarray(vectors))
    return float(unit[one] @ unit[other])


def test_shares_are_slopes_over_their_sum() -> None:
    both = ensemble(3.0, 1.0, lion=(0.0, 2.0), cow=(0.0, 0.0))
    assert both.shares("zebra") == (0.75, 0.25)
    assert both.shares("lion") == (0.0, 1.0)
    assert both.shares("cow") == (0.5, 0.5)  # neither tells anything
    assert replace(both, pooled=(1.0, 4.0)).shares("seal") == (0.2, 0.8)
    assert (both.name, both.dim) == ("a+b", 8)
    assert both.told(["zebra"]) == (
        "how much each model counts, as calibrated each by itself on split s: zebra: 75% a, 25% b"
    )


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.floats(0, 50), min_size=2, max_size=4),
    st.lists(st.integers(1, 40), min_size=4, max_size=4),
)
def test_the_joint_cosine_is_the_models_cosines_each_times_its_share(
    seed: int, slopes: list[float], dims: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    many = ensemble(*slopes, dims=tuple(dims[: len(slopes)]))
    ids = [f"i{number}" for number in range(5)]
    # Vectors come as networks give them: of any length.
    sets = [
        vectors_of(one.name, ids, rng.normal(size=(5, dim)) * rng.uniform(0.1, 30, (5, 1)))
        for one, dim in zip(many.members, dims, strict=False)
    ]
    joint = many.join(sets, dict.fromkeys(ids, "zebra"))
    shares = many.shares("zebra")
    assert joint.vectors.shape == (5, sum(dims[: len(slopes)]))
    for one in range(5):
        for other in range(5):
            alone = [cosine(table.vectors, one, other) for table in sets]
            wanted = sum(share * part for share, part in zip(shares, alone, strict=True)) / sum(shares)
            assert cosine(joint.vectors, one, other) == pytest.approx(wanted, abs=2e-3)


def test_each_species_has_its_own_shares() -> None:
    only = ensemble(1.0, 0.0, dims=(2, 2), lion=(0.0, 1.0))
    ids = ["z1", "z2", "l1", "l2"]
    same, apart = [[1, 0], [1, 0]], [[1, 0], [0, 1]]
    joint = only.join(
        [vectors_of("a", ids, same + apart), vectors_of("b", ids, apart + same)],
        {"z1": "zebra", "z2": "zebra", "l1": "lion", "l2": "lion"},
    )
    row = joint.row_of()
    assert cosine(joint.vectors, row["z1"], row["z2"]) == pytest.approx(1)  # by a alone
    assert cosine(joint.vectors, row["l1"], row["l2"]) == pytest.approx(1)  # by b alone


def test_only_what_every_model_has_is_joined_and_the_rest_is_told(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    ids = ["p", "q", "r", "s"]
    first = vectors_of("a", ids, rng.normal(size=(4, 3)))
    second = vectors_of("b", ["s", "r", "q"], rng.normal(size=(3, 5)))
    second = replace(second, current={"s": "b-s", "r": "of another box", "q": "b-q"})
    with caplog.at_level(logging.WARNING):
        joint = ensemble(1.0, 1.0).join([first, second], dict.fromkeys(ids, "zebra"))
    assert joint.annotation_ids == ("q", "s")
    assert joint.chip_keys == ("a-q+b-q", "a-s+b-s")
    assert joint.row_of() == {"q": 0, "s": 1}
    assert joint.model == "a+b"
    assert "2 annotations" in caplog.text
    assert "p, r" in caplog.text
    for row, name in enumerate(joint.annotation_ids):  # rows of the second model are in another order
        parts = unit_rows(first.vectors[[ids.index(name)]]), unit_rows(second.vectors[[("s", "r", "q").index(name)]])
        assert joint.vectors[row] == pytest.approx(np.sqrt(0.5) * np.concatenate(parts, axis=1)[0], abs=1e-3)


def test_nothing_in_common_gives_no_row(caplog: pytest.LogCaptureFixture) -> None:
    joint = ensemble(1.0, 1.0).join([vectors_of("a", ["p"], [[1, 0, 0]]), vectors_of("b", [], np.zeros((0, 5)))], {})
    assert joint.vectors.shape == (0, 8)
    assert joint.row_of() == {}
    assert "1 annotations" in caplog.text


def test_a_query_has_the_vector_that_the_catalogue_would_have() -> None:
    models, sizes = [HashingModel(3), HashingModel(5)], [16, 24]
    rng = np.random.default_rng(1)
    chips = {size: rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8) for size in sizes}
    asked = []

    def cut(size: int) -> Any:
        asked.append(size)
        return chips[size]

    both = ensemble(3.0, 1.0)
    made = both.embed(models, sizes, cut, "zebra")
    assert asked == sizes
    sets = [vectors_of(n, ["p", "q"], m.embed_chips(chips[s])) for n, m, s in zip("ab", models, sizes, strict=True)]
    assert (made == both.join(sets, {"p": "zebra", "q": "zebra"}).vectors).all()
    asked.clear()
    both.embed([HashingModel(3), HashingModel(5)], [16, 16], cut, "zebra")
    assert asked == [16]  # one photo is not cut twice for models that take one size


def test_the_passport_is_of_the_models_and_their_shares() -> None:
    both = ensemble(3.0, 1.0)
    decides = both.passport.decides
    assert decides["weights"] == {"zebra": [0.75, 0.25], OTHER_SPECIES: [0.5, 0.5]}
    assert decides["dim"] == 8
    assert ensemble(6.0, 2.0).passport.decides == decides  # only the ratio counts
    others = [
        ensemble(3.0, 2.0),
        ensemble(3.0, 1.0, lion=(1.0, 1.0)),
        replace(both, pooled=(2.0, 1.0)),
        replace(both, members=(both.members[0], member("b", 5, image_size=99))),
    ]
    assert all(other.passport.decides != decides for other in others)
    assert replace(both, splits=("t",)).passport.decides == decides


def test_one_model_or_one_twice_is_no_ensemble() -> None:
    with pytest.raises(InputError, match="at least 2"):
        ensemble(1.0, dims=(3,))
    with pytest.raises(InputError, match="models a and c are the same model"):
        Ensemble((member("a"), member("b"), replace(member("a"), name="c")), {}, (1.0,) * 3, ("s",))


def test_a_vector_without_a_direction_names_its_model() -> None:
    with pytest.raises(InputError, match=r"row 1 of the vectors of model b is zero"):
        ensemble(1.0, 1.0).join(
            [vectors_of("a", ["p", "q"], np.ones((2, 3))), vectors_of("b", ["p", "q"], [[1] * 5, [0] * 5])],
            {"p": "zebra", "q": "zebra"},
        )
