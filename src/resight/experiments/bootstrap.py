"""How many individuals of a new species must be labelled? (Paper §5.4, Table 4.)"""

from __future__ import annotations

from collections.abc import Sequence

from resight.errors import InputError
from resight.experiments.answer import Answer
from resight.experiments.given import Given, alone, joined
from resight.experiments.plan import Asked, LeftOut, RunSpec
from resight.experiments.results import Results
from resight.experiments.sizes import Way, answer_by_size

QUESTION = "How many individuals of a species must be labelled, and does it help to join all other species?"

ALONE = Way("alone", "the species alone", alone, "table4.species_only", starts_at_zero=False)
JOINED = Way("joined", "joined to all other species", joined, "table4.joint_training")


def runs(given: Given, asked: Asked) -> tuple[RunSpec, ...]:
    """At each size: the species alone, and joined to all others; at 0 the others only."""
    given.require_several("bootstrap", animals=True)
    return tuple(
        run
        for species in targets(given, asked, "bootstrap")
        for split in given.splits
        for number in given.sizes(species, asked.individuals)[0]
        for run in (
            (given.without(split, species),)
            if number == 0
            else (given.alone(split, species, number), given.joined(split, species, number))
        )
    )


def left_out(given: Given, asked: Asked) -> tuple[LeftOut, ...]:
    """Numbers of individuals that a species has not."""
    return tuple(one for species in asked.species or () for one in given.sizes(species, asked.individuals)[1])


def targets(given: Given, asked: Asked, experiment: str) -> Sequence[str]:
    """The species that are asked about.

    Raises:
        InputError: none is named, one cannot be used, or no size fits it.
    """
    if not asked.species:
        known = ", ".join(given.species)
        raise InputError(f"{experiment} asks about one species: name it (--species S); there is {known}")
    for species in asked.species:
        given.require(species)
        if not given.sizes(species, asked.individuals)[0]:
            reasons = "; ".join(f"{one.what}: {one.reason}" for one in given.sizes(species, asked.individuals)[1])
            raise InputError(f"none of --individuals can be trained on ({reasons}): name other numbers")
    return asked.species


def answer(given: Given, asked: Asked, results: Results) -> Answer:
    """Table 4."""
    return answer_by_size(
        given,
        asked,
        results,
        name="bootstrap",
        title="Top-1 by the number of individuals in training",
        ways=(ALONE, JOINED),
        comparisons=(("joined", "alone"),),
    )
