"""Annotations of made-up populations, for splits."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from resight.splits import Split
from resight.types import Annotation


def annotation(
    annotation_id: str,
    individual: str | None,
    encounter: str,
    *,
    image_id: int,
    species: str = "zebra",
    side: str | None = None,
    **other,
) -> Annotation:
    values = {
        "annotation_id": annotation_id,
        "source": "made up",
        "file_name": f"{image_id}.jpg",
        "image_id": image_id,
        "image_root": "photos",
        "image_path": f"{image_id}.jpg",
        "content_hash": None,
        "image_width": 100,
        "image_height": 100,
        "image_status": "ok",
        "species": species,
        "part": None,
        "individual": individual,
        "viewpoint": side,
        "encounter": encounter,
        "encounter_known": True,
        "identity": individual and (f"{individual}|{side}" if side else individual),
        "allowed": True,
        "box": None,
        "theta_rad": 0.0,
        "taken_at": None,
    }
    return Annotation(**(values | other))


def population(n_individuals, n_encounters, *, species="zebra", sides=(None,), first_image=0):
    """Individuals of equally many encounters, each photographed once from every side in each."""
    found = []
    for who in range(n_individuals):
        for e in range(n_encounters):
            for side in sides:
                image_id = first_image + len(found)
                found.append(
                    annotation(
                        f"{species}{image_id:06}",
                        f"{who:03}",
                        f"{species} {who} {e}",
                        image_id=image_id,
                        species=species,
                        side=side,
                        content_hash=f"content {image_id}",
                    )
                )
    return found


@st.composite
def messy_catalogues(draw):
    """Shared photos and encounters, copies of photos, both sides, unknown individuals, two species."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_individuals, n_encounters = draw(st.integers(1, 14)), draw(st.integers(1, 9))
    shared = draw(st.sampled_from([0.0, 0.05, 0.3]))
    found = []
    for species in ("zebra", "lion")[: draw(st.integers(1, 2))]:
        for who in range(n_individuals):
            for e in range(rng.integers(1, n_encounters + 1)):
                for _ in range(rng.integers(1, 4)):
                    number = len(found)
                    # A shared photo or encounter is one of a few that many individuals have.
                    image_id = int(rng.integers(5)) if rng.random() < shared else 100 + number
                    encounter = f"herd {rng.integers(5)}" if rng.random() < shared else f"{species} {who} {e}"
                    found.append(
                        annotation(
                            f"{rng.integers(10**6):06} {number}",
                            None if rng.random() < 0.05 else f"{who}",
                            encounter,
                            image_id=image_id,
                            species=species,
                            side=("left", "right", None)[rng.integers(3)],
                            content_hash=f"hash {image_id % 150}" if shared else None,
                            allowed=bool(rng.random() > 0.03),
                            image_status="quarantined" if rng.random() < 0.03 else "ok",
                            encounter_known=bool(rng.random() > 0.1),
                        )
                    )
    return found


def of_subset(split: Split, subset: str, species: str | None = None):
    return [m for m in split.members if m.subset == subset and species in (None, m.species)]


def photo(one: Annotation) -> str:
    return one.content_hash or str(one.image_id)
