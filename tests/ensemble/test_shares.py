"""How much each model counts: averaged from calibrations of each, or fitted on all at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resight.calibration.evidence import Candidates, Group, PairFeatures
from resight.calibration.fitting import fit_fusion
from resight.calibration.fusion import Fit, Fusion, Same, Settings, Support
from resight.calibration.shortlists import shortlists_of
from resight.catalogue.store import StoredSplit
from resight.embedding import EmbeddingSet
from resight.ensemble.joint import Ensemble
from resight.ensemble.shares import DEPTH, Alone, averaged, equals, fitted, read_shares, write_shares
from resight.errors import ArtefactMismatch, InputError
from resight.types import Annotation

from ..calibration.made_pairs import drawn_pairs
from ..made_up import annotation
from .made_models import member

FEW = Support(5, 1, 1, 1)


def fusion(*, scale: float, pooled: float | None, **species: float) -> Fusion:
    def fit(coefficient: float) -> Fit:
        return Fit(FEW, np.array([-2.0, coefficient]), np.zeros(5), np.zeros((0, 5)))

    return Fusion(
        Settings(), ("intercept", "cosine"), np.array([0.3]), np.array([scale]), np.zeros(4), np.ones(4),
        None if pooled is None else fit(pooled), {name: fit(value) for name, value in species.items()}, {},
        {"zebra": FEW},
    )  # fmt: skip


def test_a_slope_is_the_coefficient_over_the_spread_of_the_cosine() -> None:
    first = Alone(member("a"), fusion(scale=0.1, pooled=0.5, zebra=0.6), "s")
    second = Alone(member("b"), fusion(scale=0.4, pooled=0.8, zebra=0.8, lion=1.2), "t")
    both = averaged([first, second])
    assert both.slopes["zebra"] == pytest.approx((6, 2))
    assert both.slopes["lion"] == pytest.approx((5, 3))  # a has no fit of its own for lions
    assert both.pooled == pytest.approx((5, 2))
    assert both.splits == ("s", "t")
    assert not both.together


def test_the_average_orders_pairs_as_the_mean_of_the_calibrated_log_odds() -> None:
    cows = Group("cow")
    made = [fit_fusion(drawn_pairs(seed=seed, strength=strength)) for seed, strength in ((0, 1.0), (1, 3.0))]
    both = averaged([Alone(member(name), one, "s") for name, one in zip("ab", made, strict=True)])
    cosines = np.random.default_rng(2).uniform(-0.2, 0.8, (50, 2))
    log_odds = np.zeros(50)
    for place, one in enumerate(made):
        pairs = Candidates(PairFeatures(("cosine",), cosines[:, [place]]), np.zeros(50, int), np.arange(50))
        same = one.p_same(pairs, cows)
        assert isinstance(same, Same)
        log_odds += same.evidence / 2
    joint = cosines @ np.array(both.shares("cow"))
    slope, constant = np.polyfit(joint, log_odds, 1)
    assert slope > 0
    assert log_odds == pytest.approx(slope * joint + constant, abs=2e-3)


def test_a_calibration_without_a_fit_cannot_be_averaged() -> None:
    bare = Alone(member("b"), fusion(scale=1.0, pooled=None), "s")
    with pytest.raises(InputError, match=r"model b rests on 1 confirmed pairs.*calibrate --split SPLIT --model b"):
        averaged([Alone(member("a"), fusion(scale=1.0, pooled=1.0), "s"), bare])


SPECIES = ("cow", "lion")


def herds(noise: dict[str, tuple[float, float]], *, animals: int = 24, seed: int = 0) -> Any:
    """Two models' vectors of animals in two species; ``noise``: model → how far they scatter in either species."""
    rng = np.random.default_rng(seed)
    identities, species = {}, {}
    tables: dict[str, list[Any]] = {name: [] for name in noise}
    for place, kind in enumerate(SPECIES):
        for animal in range(animals):
            own = {name: rng.normal(size=16) for name in noise}
            for photo in range(3):
                key = f"{kind}{animal:02}-{photo}"
                identities[key], species[key] = f"{kind}{animal}", kind
                for name, scatter in noise.items():
                    tables[name].append(own[name] + scatter[place] * rng.normal(size=16))
    ids = tuple(identities)
    split = StoredSplit(
        "s", "paper", 0, 1, "t", dict.fromkeys(ids, "test"), identities, {key: f"e-{key}" for key in ids}, species, {}
    )
    sets = [EmbeddingSet(name, ids, ids, np.array(rows, np.float16)) for name, rows in tables.items()]
    return split, [annotation(key, species=species[key], individual=identities[key]) for key in ids], sets


def fit(split: StoredSplit, animals: list[Annotation], sets: list[EmbeddingSet]) -> Ensemble:
    members = [member(one.model, one.vectors.shape[1]) for one in sets]
    start = equals(members).join(sets, split.species)
    lists = shortlists_of(split, animals, start, dict.fromkeys(SPECIES, "ignore"), depth=DEPTH)
    return fitted(members, sets, lists, split.name)


def test_a_fit_gives_each_species_the_model_that_knows_it() -> None:
    found = fit(*herds({"a": (0.8, 30.0), "b": (30.0, 0.8)}))
    assert found.shares("cow")[0] > 0.9
    assert found.shares("lion")[1] > 0.9
    assert 0.3 < found.shares("seal")[0] < 0.7
    assert (found.splits, found.together) == (("s",), True)


def test_a_fit_takes_equally_good_models_as_equals() -> None:
    found = fit(*herds({"a": (1.2, 1.2), "b": (1.2, 1.2)}))
    for name in SPECIES:
        assert found.shares(name) == pytest.approx((0.5, 0.5), abs=0.15)


def test_a_model_that_says_the_same_as_a_better_one_adds_nothing() -> None:
    """What averaging cannot see: taken by itself the worse one is a fair witness."""
    split, animals, [good, _] = herds({"a": (1.0, 1.0), "b": (1.0, 1.0)})
    blurred = good.vectors + np.random.default_rng(3).normal(size=good.vectors.shape)
    found = fit(split, animals, [good, replace(good, model="b", vectors=blurred.astype(np.float16))])
    for name in SPECIES:
        assert found.shares(name)[0] > 0.85


def test_no_slope_is_below_0() -> None:
    split, animals, [good, _] = herds({"a": (1.0, 1.0), "b": (1.0, 1.0)})
    against = np.random.default_rng(4).normal(size=good.vectors.shape) - good.vectors  # far where a is far, and noise
    found = fit(split, animals, [good, replace(good, model="b", vectors=against.astype(np.float16))])
    assert all(slope >= 0 for slopes in (*found.slopes.values(), found.pooled) for slope in slopes)


def test_too_few_pairs_are_said() -> None:
    with pytest.raises(InputError, match=r"not enough confirmed pairs of split 's': 24 of 8 individuals.*more animals"):
        fit(*herds({"a": (1.0, 1.0), "b": (1.0, 1.0)}, animals=4))


def test_a_species_with_too_few_pairs_takes_what_holds_for_all() -> None:
    split, animals, sets = herds({"a": (0.8, 0.8), "b": (30.0, 30.0)})
    few = {key for key, kind in split.species.items() if kind == "lion" and int(key[4:6]) >= 9}
    split = replace(split, subset={key: "train" if key in few else "test" for key in split.subset})
    found = fit(split, animals, sets)
    assert set(found.slopes) == {"cow"}
    assert found.shares("lion") == found.shares("seal")


MEMBERS = (member("a"), member("b"))


def test_shares_are_kept_and_read_again(tmp_path: Path) -> None:
    made = Ensemble(MEMBERS, {"zebra": (1.25, 0.0)}, (0.1, 0.2), ("s",), together=True)
    write_shares(made, tmp_path / "shares.json")
    assert read_shares(tmp_path / "shares.json", MEMBERS) == made


def test_shares_of_other_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "shares.json"
    write_shares(Ensemble(MEMBERS, {}, (0.1, 0.2), ("s",)), path)
    with pytest.raises(ArtefactMismatch, match=r"members is .*--model a --model b"):
        read_shares(path, (MEMBERS[0], member("b", weights_hash="trained anew")))


@pytest.mark.parametrize("change", [{"slopes": {"zebra": [1.0]}}, {"slopes_of_other_species": [-1, 2]}, {"slopes": 3}])
def test_broken_shares_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "shares.json"
    write_shares(Ensemble(MEMBERS, {"zebra": (1.0, 2.0)}, (0.1, 0.2), ("s",)), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtefactMismatch, match="cannot be read as the shares of models"):
        read_shares(path, MEMBERS)
