from __future__ import annotations

import numpy as np
import pytest

from resight.demo.encounters import KINDS, Kind, draw_encounter


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_is_the_same_whether_drawn_alone_or_with_others(kind: Kind) -> None:
    together = draw_encounter(7, kind, 2, 3, ["left", "right"])
    (alone,) = draw_encounter(7, kind, 2, 3, ["left"])
    np.testing.assert_array_equal(np.asarray(together[0].image), np.asarray(alone.image))
    assert [shot.side for shot in together] == ["left", "right"]
    assert together[0].image.size == together[1].image.size


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_animal_the_box_and_the_place_stay(kind: Kind) -> None:
    (shot,) = draw_encounter(7, kind, 2, 3, ["left"])
    (empty,) = draw_encounter(7, kind, 2, 3, ["left"], animals=False)
    assert (shot.box, shot.theta_rad) == (empty.box, empty.theta_rad)
    away = np.abs(np.asarray(shot.image).astype(int) - np.asarray(empty.image)).max(axis=2)
    x, y, w, h = (int(value) for value in (shot.box.x, shot.box.y, shot.box.w, shot.box.h))
    assert away[y : y + h, x : x + w].mean() > 8
    above = max(y - 4, 0)
    assert not away[:above].any()  # nothing of the animal, its shadow or reflection reaches above its box


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_lie_inside_the_photo_and_hold_the_animal(kind: Kind) -> None:
    for encounter in range(6):
        for shot in draw_encounter(1, kind, 0, encounter, ["left"]):
            box = shot.box
            assert box.x >= 0
            assert box.y >= 0
            assert box.x + box.w <= shot.image.width
            assert box.y + box.h <= shot.image.height
            assert box.w > 30
            assert box.h > 30


def test_the_place_does_not_depend_on_who_is_met() -> None:
    """Encounters are new places: two of one individual are no more alike than two of different ones."""

    def small(individual: int, encounter: int) -> np.ndarray:
        (shot,) = draw_encounter(3, "spots", individual, encounter, ["left"], animals=False)
        pixels = np.asarray(shot.image.resize((24, 16)), dtype=np.float64).ravel()
        return (pixels - pixels.mean()) / pixels.std()

    pictures = np.array([[small(individual, encounter) for encounter in range(4)] for individual in range(4)])
    alike = np.einsum("aip,bjp->abij", pictures, pictures) / pictures.shape[2]
    same = [alike[a, a, i, j] for a in range(4) for i in range(4) for j in range(4) if i != j]
    other = [alike[a, b, i, j] for a in range(4) for b in range(4) for i in range(4) for j in range(4) if a != b]
    assert abs(np.mean(same) - np.mean(other)) < 0.2


def test_some_striped_animals_stand_on_a_slope_and_no_others() -> None:
    turned = {
        kind: sum(
            draw_encounter(0, kind, 0, encounter, ["left"], animals=False)[0].theta_rad != 0 for encounter in range(12)
        )
        for kind in KINDS
    }
    assert 1 <= turned["stripes"] <= 9
    assert turned["spots"] == turned["fin"] == 0
