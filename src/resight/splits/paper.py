"""The paper's protocol (§3.3) for one species, without its leaks.

Of each species, some individuals are *unseen*: all their annotations are candidates for test and none is trained on.
Others are *seen*: a few of their encounters are reserved for test and the rest is trained on. The remaining ones are
trained on only. Then filters run, in one order, until nothing changes:

1. an annotation leaves test whose image or encounter is in training;
2. one annotation an encounter stays in test, chosen at random so that as many identities as possible keep two;
3. at most 10 annotations an identity stay in test, at random;
4. identities with fewer than 2 annotations leave test;
5. identities with fewer than 3 annotations leave training and are set aside;
6. an identity leaves test that is neither seen nor unseen: its individual is trained on or set aside, but the
   identity itself (the other side) is not trained on.

Half of the test identities must be seen and half unseen. The surplus leaves test at random and the filters run again;
where too little would be left (``_surplus_stays``) it stays and a warning says so. At the end what became free of the
seen individuals' reserved annotations goes back to training.

Every random choice is an order by a hash of the seed, the purpose and the names chosen from, so neither the order of
the rows nor the machine changes the result; nor does another species, unless it shares photos or encounters with it.

Encounters of one individual that share a photo (the same image, or a copy with the same content) count as one
encounter throughout.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import numpy as np

from resight.splits.frozen import (
    LEAST_PER_TEST_IDENTITY,
    LEAST_PER_TRAIN_IDENTITY,
    MOST_PER_TEST_IDENTITY,
    STEP_ENCOUNTER,
    STEP_LEAK,
    STEP_LEAST_TEST,
    STEP_LEAST_TRAIN,
    STEP_MOST,
    STEP_OTHER_SIDE,
    STEP_RETURNED,
    STEP_SURPLUS_SEEN,
    STEP_SURPLUS_UNSEEN,
    FilterStep,
    SplitSpecies,
    Subset,
)
from resight.types import Annotation


def train_share(n_individuals: int) -> float:
    """``TRAIN_SHARE_FORMULA``: the smaller the set, the smaller the share that is trained on (paper §3.3, step 1)."""
    return 0.5 + 0.3 * n_individuals / (n_individuals + 500)


def identity_of(annotation: Annotation) -> str:
    """The identity that is split; the individual where nothing else is known."""
    return annotation.identity or annotation.individual or ""


def photo_of(annotation: Annotation) -> str:
    """The photo, by its content where that is known: a copy is the same photo."""
    return annotation.content_hash or f"image {annotation.image_id}"


def _numbers(values: Sequence[str]) -> tuple[list[str], list[int]]:
    """The sorted different values, and the place of each value among them."""
    names = sorted(set(values))
    place = {value: number for number, value in enumerate(names)}
    return names, [place[value] for value in values]


def groups(keys: Iterable[int], items: Iterable[int]) -> dict[int, list[int]]:
    """Collect items by key, both in the order in which they come."""
    groups: dict[int, list[int]] = defaultdict(list)
    for key, item in zip(keys, items, strict=True):
        groups[key].append(item)
    return groups


def _merged_encounters(encounter: list[int], individual: list[int], photo: list[int]) -> list[int]:
    """Make one of the encounters in which the same photo shows the same individual."""
    parent = list(range(max(encounter, default=-1) + 1))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    first: dict[tuple[int, int], int] = {}
    for one, who, where in zip(encounter, individual, photo, strict=True):
        a, b = root(one), root(first.setdefault((who, where), one))
        parent[max(a, b)] = min(a, b)
    return [root(one) for one in encounter]


def _surplus_stays(n_seen: int, n_unseen: int) -> bool:
    """Whether making the halves equal would leave too little.

    What leaves the seen half goes back to training, so it goes unless next to nothing is unseen; what leaves the unseen
    half is lost, so it goes only where at least half of the test identities are left.
    """
    if n_seen > n_unseen:
        return n_unseen < 3 and 2 * n_unseen < n_seen
    return 4 * n_seen < n_seen + n_unseen


class SpeciesSplit:
    """The split of one species while it is being made; other protocols differ in how they assign, and what follows.

    Everything is an integer: annotations by their place among the sorted ids, individuals, identities, encounters and
    photos by their place among the sorted keys. ``train`` is what would be trained on if every identity had enough;
    ``trained`` holds the identities that have.
    """

    def __init__(self, species: str, annotations: list[Annotation], seed: int, fraction: float | None) -> None:
        self.species, self.annotations, self.seed = species, annotations, seed
        self.ids = [annotation.annotation_id for annotation in annotations]
        self.individuals, self.individual = _numbers([annotation.individual or "" for annotation in annotations])
        self.identities, self.identity = _numbers([f"{a.individual}\0{identity_of(a)}" for a in annotations])
        _, self.photo = _numbers([photo_of(annotation) for annotation in annotations])
        self.encounters, encounter = _numbers([annotation.encounter for annotation in annotations])
        self.encounter = _merged_encounters(encounter, self.individual, self.photo)
        self.individual_of = dict(zip(self.identity, self.individual, strict=True))
        self.n_individuals = len(set(self.individual))
        self.share = train_share(self.n_individuals) if fraction is None else fraction
        self.unseen: set[int] = set()  # individuals
        self.train: set[int] = set()  # annotations
        self.test: set[int] = set()  # annotations
        self.trained: set[int] = set()  # identities
        self.filters: list[FilterStep] = []
        self.warnings: list[str] = []

    def run(self) -> None:
        """Assign, filter, balance, and give back; warn of what could not be had."""
        self._assign()
        round_number = 0
        changed = True
        while changed:
            round_number += 1
            changed = self._filter(round_number)
            if not changed:
                changed = self._remove_surplus(round_number)
        self._give_back(round_number)
        self._warn()

    def subsets(self) -> list[Subset | None]:
        """One subset an annotation, ``None`` for unused."""
        trained: list[Subset | None] = ["set_aside", "train"]
        return [
            "test" if a in self.test else trained[self.identity[a] in self.trained] if a in self.train else None
            for a in range(len(self.annotations))
        ]

    def counts(self, subsets: Sequence[Subset | None]) -> SplitSpecies:
        """Count annotations and identities by subset."""
        annotations = Counter(subsets)
        identities: dict[Subset | None, set[int]] = defaultdict(set)
        for identity, subset in zip(self.identity, subsets, strict=True):
            identities[subset].add(identity)
        return SplitSpecies(
            species=self.species,
            train_share=self.share,
            train_annotations=annotations["train"],
            train_individuals=len(identities["train"]),
            test_annotations=annotations["test"],
            test_individuals=len(identities["test"]),
            test_individuals_seen=len(identities["test"] & self.trained),
            set_aside_annotations=annotations["set_aside"],
            set_aside_individuals=len(identities["set_aside"]),
            unused=annotations[None],
        )

    def _shuffled(self, purpose: str, items: Iterable[int], names: Sequence[str]) -> list[int]:
        """Put items in a random order that depends on the seed, the purpose and the items' names alone."""
        start = f"{self.seed}\0{purpose}\0"
        return sorted(items, key=lambda item: sha256((start + names[item]).encode()).digest())

    # --- assignment -------------------------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Choose the unseen individuals, and the encounters that are reserved of the seen ones.

        The unseen are drawn at random from the individuals that can be tested at all: as many of them, up to the share
        that is not trained on, as give the largest test set of two equal halves; all of that share where too few can
        be seen for equal halves to be worth it.
        """
        of_individual = groups(self.individual, range(len(self.annotations)))
        alone = self._alone()
        shuffle = {
            e: place for place, e in enumerate(self._shuffled("encounters", set(self.encounter), self.encounters))
        }
        as_unseen, as_seen, reserved = {}, {}, {}
        for who, mine in of_individual.items():
            mine_alone = [a for a in mine if a in alone]
            reserved[who], as_seen[who] = self._reserve(mine_alone, mine, shuffle)
            as_unseen[who] = len(self._pairs(mine_alone, shuffle, lambda identity: True))
        drawn = self._shuffled("unseen", (who for who in of_individual if as_unseen[who]), self.individuals)
        most = min(len(drawn), max(1, round((1 - self.share) * self.n_individuals))) if self.n_individuals > 1 else 0
        n_unseen = np.cumsum([0] + [as_unseen[who] for who in drawn[:most]])
        n_seen = sum(as_seen.values()) - np.cumsum([0] + [as_seen[who] for who in drawn[:most]])
        best = int(np.minimum(n_unseen, n_seen).argmax())
        if 4 * n_unseen[best] < n_unseen[-1] + n_seen[-1] and n_seen[-1] < n_unseen[-1]:
            best = len(n_unseen) - 1  # _surplus_stays: equal halves would waste too much
        self.unseen = set(drawn[:best])
        self._place(lambda a: self.individual[a] in self.unseen or self.encounter[a] in reserved[self.individual[a]])

    def _place(self, in_test: Callable[[int], bool]) -> None:
        """Put every annotation on its side, and note the identities that have enough to be trained on."""
        for a in range(len(self.annotations)):
            (self.test if in_test(a) else self.train).add(a)
        counts = Counter(self.identity[a] for a in self.train)
        self.trained = {identity for identity, count in counts.items() if count >= LEAST_PER_TRAIN_IDENTITY}

    def _alone(self) -> set[int]:
        """Annotations whose encounter and photo show no other individual, so that they clash with nobody's training."""
        in_encounter, in_photo = defaultdict(set), defaultdict(set)
        for a, who in enumerate(self.individual):
            in_encounter[self.encounter[a]].add(who)
            in_photo[self.photo[a]].add(who)
        return {
            a
            for a in range(len(self.annotations))
            if len(in_encounter[self.encounter[a]]) == 1 and len(in_photo[self.photo[a]]) == 1
        }

    def _reserve(self, alone: list[int], mine: list[int], shuffle: dict[int, int]) -> tuple[set[int], int]:
        """Choose the encounters of one individual that are kept for test if it is seen.

        Two for every identity of which enough remains to train on, then more up to the share that is not trained on.

        Returns:
            The encounters, and how many identities they can test.
        """
        total = Counter(self.identity[a] for a in mine)
        inside = Counter((self.encounter[a], self.identity[a]) for a in mine)
        showing: dict[int, set[int]] = defaultdict(set)
        for a in alone:
            showing[self.encounter[a]].add(self.identity[a])
        encounters = sorted(showing, key=lambda e: (len(showing[e]), shuffle[e]))
        wanted = round((1 - self.share) * len({self.encounter[a] for a in mine}))
        wanted = max(LEAST_PER_TEST_IDENTITY, min(wanted, MOST_PER_TEST_IDENTITY * len(total)))
        reserved: set[int] = set()
        tested: list[int] = []

        def enough_left(encounters: set[int], identities: list[int]) -> bool:
            return all(
                total[identity] - sum(inside[e, identity] for e in encounters) >= LEAST_PER_TRAIN_IDENTITY
                for identity in identities
            )

        for identity in sorted(total, key=lambda identity: (total[identity], identity)):
            pair = [e for e in encounters if identity in showing[e] and e not in reserved][:LEAST_PER_TEST_IDENTITY]
            larger = reserved.union(pair)
            fits = len(pair) == LEAST_PER_TEST_IDENTITY and len(larger) <= wanted
            if fits and enough_left(larger, [*tested, identity]):
                reserved = larger
                tested.append(identity)
        for e in sorted(encounters, key=shuffle.__getitem__):
            if len(reserved) >= wanted:
                break
            if e not in reserved and showing[e].intersection(tested) and enough_left(reserved | {e}, tested):
                reserved.add(e)
        return reserved, len(tested)

    def _pairs(
        self, candidates: Iterable[int], shuffle: dict[int, int], wanted: Callable[[int], bool]
    ) -> dict[int, list[int]]:
        """Give two encounters to as many of the wanted identities as possible, no encounter twice.

        Identities with the fewest encounters choose first, and take encounters that serve the fewest others.

        Returns:
            Identity → its two encounters.
        """
        encounters_of: dict[int, set[int]] = defaultdict(set)
        for a in candidates:
            if wanted(self.identity[a]):
                encounters_of[self.identity[a]].add(self.encounter[a])
        serves = Counter(e for encounters in encounters_of.values() for e in encounters)
        taken: set[int] = set()
        pairs = {}
        for identity, encounters in sorted(encounters_of.items(), key=lambda item: (len(item[1]), item[0])):
            free = sorted(encounters - taken, key=lambda e: (serves[e], shuffle[e]))[:LEAST_PER_TEST_IDENTITY]
            if len(free) == LEAST_PER_TEST_IDENTITY:
                pairs[identity] = free
                taken.update(free)
        return pairs

    # --- filters ----------------------------------------------------------------------------------------------------

    def _filter(self, round_number: int) -> bool:
        """Run every filter once; True if test or training lost anything."""
        changed = False
        for step, leaving in (
            (STEP_LEAK, self._leaking),
            (STEP_ENCOUNTER, self._beside_another),
            (STEP_MOST, self._above_most),
            (STEP_LEAST_TEST, self._below_least),
        ):
            changed |= self._take_out(round_number, step, leaving())
        short = [a for a in self.train if self.identity[a] not in self.trained] if round_number == 1 else []
        identities = len({self.identity[a] for a in short})
        self.filters.append(FilterStep(self.species, round_number, STEP_LEAST_TRAIN, len(short), identities))
        changed |= self._take_out(round_number, STEP_OTHER_SIDE, self._other_side())
        return changed or bool(short)

    def _take_out(self, round_number: int, step: str, leaving: set[int]) -> bool:
        before = {self.identity[a] for a in self.test}
        self.test -= leaving
        gone = len(before) - len({self.identity[a] for a in self.test})
        self.filters.append(FilterStep(self.species, round_number, step, len(leaving), gone))
        return bool(leaving)

    def _leaking(self) -> set[int]:
        trained = [a for a in self.train if self.identity[a] in self.trained]
        photos, encounters = {self.photo[a] for a in trained}, {self.encounter[a] for a in trained}
        return {a for a in self.test if self.photo[a] in photos or self.encounter[a] in encounters}

    def _beside_another(self) -> set[int]:
        """All but one annotation of every encounter in test."""
        order = self._shuffled("one an encounter", self.test, self.ids)
        if len({self.encounter[a] for a in order}) == len(order):
            return set()
        shuffle = {
            e: place
            for place, e in enumerate(self._shuffled("encounters in test", set(self.encounter), self.encounters))
        }
        chosen: dict[int, int] = {}  # encounter -> identity
        for identity, pair in self._pairs(order, shuffle, self._testable).items():
            chosen.update(dict.fromkeys(pair, identity))
        held = Counter(chosen.values())
        in_encounter = groups((self.encounter[a] for a in order), order)
        for e in sorted(in_encounter, key=shuffle.__getitem__):
            if e not in chosen:
                # An identity without a pair would leave test anyway, so those with one come first, the poorest ahead.
                present = [self.identity[a] for a in in_encounter[e]]
                chosen[e] = min(present, key=lambda identity: (held[identity] == 0, held[identity]))
                held[chosen[e]] += 1
        kept = {next(a for a in found if self.identity[a] == chosen[e]) for e, found in in_encounter.items()}
        return self.test - kept

    def _above_most(self) -> set[int]:
        order = self._shuffled("at most 10", self.test, self.ids)
        by_identity = groups((self.identity[a] for a in order), order)
        return {a for found in by_identity.values() for a in found[MOST_PER_TEST_IDENTITY:]}

    def _below_least(self) -> set[int]:
        counts = Counter(self.identity[a] for a in self.test)
        return {a for a in self.test if counts[self.identity[a]] < LEAST_PER_TEST_IDENTITY}

    def _other_side(self) -> set[int]:
        return {a for a in self.test if not self._testable(self.identity[a])}

    def _testable(self, identity: int) -> bool:
        return identity in self.trained or self.individual_of[identity] in self.unseen

    # --- balance ----------------------------------------------------------------------------------------------------

    def _halves(self) -> tuple[set[int], set[int]]:
        """The identities in test that are seen, and those that are unseen."""
        identities = {self.identity[a] for a in self.test}
        return identities & self.trained, identities - self.trained

    def _remove_surplus(self, round_number: int) -> bool:
        """Make both halves equal, unless too little would be left; True if test lost anything."""
        seen, unseen = self._halves()
        smaller = min(len(seen), len(unseen))
        if len(seen) == len(unseen) or _surplus_stays(len(seen), len(unseen)):
            return False
        larger, step = (seen, STEP_SURPLUS_SEEN) if len(seen) > smaller else (unseen, STEP_SURPLUS_UNSEEN)
        leaving = set(self._shuffled(step, larger, self.identities)[smaller:])
        return self._take_out(round_number, step, {a for a in self.test if self.identity[a] in leaving})

    def _give_back(self, round_number: int) -> None:
        """Train on what was reserved and is in no encounter and photo of the test set."""
        encounters, photos = {self.encounter[a] for a in self.test}, {self.photo[a] for a in self.test}
        returned = {
            a
            for a, identity in enumerate(self.identity)
            if identity in self.trained and a not in self.train
            if self.encounter[a] not in encounters and self.photo[a] not in photos
        }
        self.train |= returned
        self.filters.append(FilterStep(self.species, round_number, STEP_RETURNED, len(returned), 0))

    def _warn(self) -> None:
        seen, unseen = self._halves()
        if not seen and not unseen:
            self._note("no test set: no individual has an identity with two encounters of its own that can be tested")
        elif len(seen) != len(unseen):
            self._note(
                f"{len(seen)} of {len(seen) + len(unseen)} test identities are seen in training, not half: making both "
                f"halves equal would leave {2 * min(len(seen), len(unseen))}"
            )
        self._warn_of_gaps()

    def _warn_of_gaps(self) -> None:
        """Warn of what any protocol may lack: something to train on, and known encounters."""
        if not self.trained:
            self._note("nothing to train on: no identity that is trained on has 3 annotations")
        unknown = sum(not annotation.encounter_known for annotation in self.annotations)
        if unknown:
            self._note(
                f"{unknown} of {len(self.annotations)} annotations have no known encounter and count as one each: "
                "near-duplicates may stand on both sides"
            )

    def _note(self, text: str) -> None:
        self.warnings.append(f"{self.species}: {text}")
