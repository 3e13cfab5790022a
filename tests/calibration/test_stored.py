from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from resight.calibration.evidence import Group
from resight.calibration.fitting import fit_fusion
from resight.calibration.fusion import Isotonic, Settings
from resight.calibration.open_figures import open_figures, operating_point
from resight.calibration.open_set import NewSettings, OpenQueries, fit_open_set, suggested_share_of_new
from resight.calibration.reliability import reliability_views
from resight.calibration.stopping import Length, Stop
from resight.calibration.stored import Calibration, load_calibration, passport_of, write_calibration
from resight.errors import ArtefactMismatch

from .made_pairs import drawn_pairs

GROUPS = (Group("cow [1, 2]", "left"), Group("cow [1, 2]", "right"), Group("yak"))


def passport(**changes):
    values = {"shortlist": 20, "local_key": "abc", "model": "m", "split": "s0", "catalogue_revision": 7, **changes}
    return passport_of({"weights_hash": values.pop("weights_hash", "w1")}, **values)


@pytest.fixture(scope="module")
def made():
    pairs = drawn_pairs(n_identity=90, groups=GROUPS, local=True)
    fusion = fit_fusion(pairs, Settings(draws=30, least_for_isotonic=10**9))
    stage = Isotonic(np.array([-2.5, 0.1, 3.0]), np.array([0.01, 0.4, 0.97]))
    fusion = replace(fusion, species={**fusion.species, "yak": replace(fusion.species["yak"], isotonic=stage)})
    rng = np.random.default_rng(0)
    n = 200
    is_new = np.arange(n) % 2 == 0
    queries = OpenQueries(
        rng.standard_normal(n) - 2 * is_new,
        rng.random(n),
        np.full(n, 9),
        is_new,
        ~is_new,
        np.arange(n) // 2,
        np.zeros(n, int),
        np.zeros(n, int),
        ("cow [1, 2]",),
    )
    open_set = fit_open_set(queries, NewSettings(draws=30))
    p = rng.random(n)
    calibration = Calibration(
        fusion,
        open_set,
        passport(),
        {"cow [1, 2]": reliability_views(p, is_new, np.ones(n, int))},
        {"cow [1, 2]": open_figures(p, is_new, ~is_new, queries.identity, queries.draw)},
        {"cow [1, 2]": operating_point(p, is_new, ~is_new, share=0.3, cost_missed=1, cost_false=5)},
        {"cow [1, 2]": suggested_share_of_new([1, 2])},
        {"cow [1, 2]": Length(13, 0.9, 0.912, 200, 188), "yak": Length(20, None, None, 0, 0)},
        {"cow [1, 2]": Stop(9.007, 337, 0.9911, 44, 0.39)},
        {"cow [1, 2]": (0.91, 0.9), "yak": (0.3, 0.6)},
    )
    return pairs, queries, calibration


def test_round_trip(made, tmp_path):
    pairs, queries, calibration = made
    write_calibration(calibration, tmp_path / "calibration.json")
    read = load_calibration(tmp_path / "calibration.json", passport())
    for place, group in enumerate(GROUPS):
        mine = pairs.candidates.rows(pairs.group_of == place)
        one, other = calibration.fusion.p_same(mine, group), read.fusion.p_same(mine, group)
        np.testing.assert_array_equal(one.p, other.p)
        np.testing.assert_array_equal(one.logit, other.logit)
        np.testing.assert_allclose(one.low, other.low, atol=1e-3)
        assert (one.level, one.support) == (other.level, other.support)
    at = (queries.best, queries.gap, queries.names, "cow [1, 2]")
    one, other = (each.open_set.p_new(*at, share=0.2) for each in (calibration, read))
    np.testing.assert_array_equal(one.p, other.p)
    np.testing.assert_allclose(one.high, other.high, atol=1e-3)
    assert read.fusion.lacks(Group("gnu")) == calibration.fusion.lacks(Group("gnu"))
    for name in ("reliability", "open_figures", "operating_points", "shares", "passport", "lengths", "stops",
                 "first_right"):  # fmt: skip
        assert getattr(read, name) == getattr(calibration, name)
    assert set(read.fusion.viewpoints) == set(GROUPS[:2])


def test_a_file_from_before_shortlists_had_lengths_is_read(made, tmp_path):
    path = tmp_path / "calibration.json"
    write_calibration(made[2], path)
    document = json.loads(path.read_text(encoding="utf-8"))
    for name in ("lengths", "stops", "first_right"):
        del document[name]
    path.write_text(json.dumps(document), encoding="utf-8")
    read = load_calibration(path, passport())
    assert (read.lengths, read.stops, read.first_right) == ({}, {}, {})
    assert read.decisive("yak") is None
    assert not read.did_not_help("yak")  # nobody has looked


def test_what_it_says_of_a_species(made):
    calibration = made[2]
    assert (calibration.decisive("cow [1, 2]"), calibration.decisive("yak")) == (9.007, None)
    assert [calibration.did_not_help(name) for name in ("cow [1, 2]", "yak", "gnu")] == [True, False, False]


def test_people_can_read_it(made, tmp_path):
    _, _, calibration = made
    path = tmp_path / "calibration.json"
    write_calibration(calibration, path)
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    assert document["decides"]["weights_hash"] == "w1"
    assert document["recorded"] == {"model": "m", "split": "s0", "catalogue_revision": 7}
    assert document["p_same"]["species"]["yak"]["support"]["confirmed"] > 20
    assert "cow [1, 2]" in document["p_new"]["species"]
    fit = document["p_same"]["pooled"]
    assert f'"pair": {json.dumps(fit["pair"])}' in text  # one line
    assert len(text.splitlines()) < 800


def test_an_empty_calibration_can_be_kept(tmp_path):
    pairs = drawn_pairs(n_identity=3)
    fusion = fit_fusion(pairs)
    path = tmp_path / "c.json"
    nothing = OpenQueries(
        *[np.zeros(0)] * 2, *[np.zeros(0, int)], *[np.zeros(0, bool)] * 2, *[np.zeros(0, int)] * 3, ()
    )
    write_calibration(Calibration(fusion, fit_open_set(nothing), passport()), path)
    read = load_calibration(path, passport())
    assert read.fusion.pooled is None
    assert read.fusion.lacks(Group("cow")) == fusion.lacks(Group("cow"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weights_hash": "w2"}, "weights_hash is 'w1' there and 'w2' now"),
        ({"local_key": None}, "local_evidence is 'abc' there and None now"),
        ({"shortlist": 50}, "shortlist is 20 there and 50 now"),
    ],
)
def test_what_does_not_fit_is_refused(made, tmp_path, changes, told):
    write_calibration(made[2], tmp_path / "c.json")
    with pytest.raises(ArtefactMismatch, match=told) as caught:
        load_calibration(tmp_path / "c.json", passport(**changes))
    assert "`resight calibrate --split s0 --model m --rerank local`" in str(caught.value)
    # The model's name, the split and the catalogue's revision are only recorded.
    other = passport(model="other", split="s1", catalogue_revision=9)
    assert load_calibration(tmp_path / "c.json", other).passport.recorded["model"] == "m"


def test_the_command_that_makes_it_anew_names_every_model(made, tmp_path):
    of_two = replace(made[2], passport=passport(model="a+b", local_key=None))
    write_calibration(of_two, tmp_path / "c.json")
    with pytest.raises(ArtefactMismatch, match="`resight calibrate --split s0 --model a --model b`"):
        load_calibration(tmp_path / "c.json", passport(weights_hash="w2"))


def test_what_cannot_be_read_is_refused(made, tmp_path):
    path = tmp_path / "c.json"
    with pytest.raises(ArtefactMismatch, match="No such file"):
        load_calibration(path, passport())
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ArtefactMismatch, match="cannot be read as a calibration"):
        load_calibration(path, passport())
    write_calibration(made[2], path)
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["p_same"]["columns"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ArtefactMismatch, match="columns"):
        load_calibration(path, passport())


def test_numbers_that_are_none_are_refused(made, tmp_path):
    broken = replace(made[2], fusion=replace(made[2].fusion, centre=np.array([np.nan])))
    with pytest.raises(ValueError, match="JSON"):
        write_calibration(broken, tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()
