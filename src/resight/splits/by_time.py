"""The protocol by time for one species: trained on before a date, tested from it on.

An encounter stays whole, on the side of the day on which it began. Days are those that the camera or the source wrote
(the first ten characters of ``taken_at``): a time of day and an offset from UTC change nothing, so a date alone and a
date with a time can be mixed, and a night's photos fall on the day that the people in the field gave them.

Where no date is given the species' own is taken: the day that puts the share of its annotations before it that is
nearest to f(N). A test identity is *seen* if it is trained on, and *unseen* if nothing of its individual is: one with
one or two earlier photos counts as unseen, and those photos are set aside. The filters are the paper's (``paper.py``);
nothing is balanced, for time gave the sides, and nothing later than the date goes back to training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import accumulate

from resight.errors import InputError
from resight.splits.frozen import SplitSpecies, Subset
from resight.splits.paper import SpeciesSplit
from resight.types import Annotation

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_day(text: str) -> date:
    """A day as the user writes it.

    Raises:
        InputError: it is not YYYY-MM-DD, or there is no such day.
    """
    if _DAY.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise InputError(f"date {text!r}: expected a day that exists, as YYYY-MM-DD") from None


def day_of(annotation: Annotation) -> date | None:
    """The day on which the photo was taken, where it was taken; ``None`` where that is not known."""
    try:
        return None if annotation.taken_at is None else parse_day(annotation.taken_at[:10])
    except InputError:
        return None


class TimeSplit(SpeciesSplit):
    """As the paper's split, with sides that a date divides; every annotation must have a day."""

    def __init__(
        self, species: str, annotations: list[Annotation], seed: int, fraction: float | None, given: date | None
    ) -> None:
        super().__init__(species, annotations, seed, fraction)
        self.days = [day for annotation in annotations if (day := day_of(annotation)) is not None]
        if len(self.days) < len(annotations):
            raise InputError(f"{species}: {len(annotations) - len(self.days)} annotations have no date; leave them out")
        self.given = given
        self.date = given or date.max  # the species' own as soon as it is known

    def counts(self, subsets: Sequence[Subset | None]) -> SplitSpecies:
        """Count annotations and identities by subset, and tell the date."""
        return replace(super().counts(subsets), date=self.date.isoformat() if self.annotations else None)

    def _assign(self) -> None:
        self.begun: list[date] = []
        if not self.annotations:
            return
        first: dict[int, date] = {}
        for encounter, day in zip(self.encounter, self.days, strict=True):
            first[encounter] = min(day, first.get(encounter, day))
        self.begun = [first[encounter] for encounter in self.encounter]
        if self.given is None:
            self.date = dividing_day(self.begun, self.share)
        else:
            self.date = self.given
            self.share = sum(day < self.date for day in self.begun) / len(self.begun)
        self._place(lambda a: self.begun[a] >= self.date)
        self.unseen = set(self.individual) - {self.individual_of[identity] for identity in self.trained}

    def _remove_surplus(self, round_number: int) -> bool:
        return False  # both halves are as time gave them

    def _give_back(self, round_number: int) -> None:
        """What is from the date on is never trained on."""

    def _warn(self) -> None:
        if not self.annotations:
            self._note("no annotation is left to train on or to test")
            return
        before, after = min(self.begun) < self.date, max(self.begun) >= self.date
        if not after:
            self._note(f"no test set: nothing from {self.date} on; the last encounter began on {max(self.begun)}")
        elif not self.test:
            self._note(f"no test set: no identity has two encounters from {self.date} on that can be tested")
        if not before:
            self._note(f"nothing before {self.date}; the first encounter began on {min(self.begun)}")
        late = [a for a, day in enumerate(self.days) if day >= self.date > self.begun[a]]
        if late:
            encounters = len({self.encounter[a] for a in late})
            self._note(
                f"{encounters} encounters span {self.date} and stay before it whole, with {len(late)} annotations "
                "from that day on"
            )
        self._warn_of_gaps()


def dividing_day(days: Sequence[date], share: float) -> date:
    """The day that has the share of ``days`` before it that is nearest to ``share``; the earlier of two.

    At least one of ``days`` lies before it, and one from it on unless all are the same.
    """
    counts = sorted(Counter(days).items())
    if len(counts) == 1:
        return counts[0][0] + timedelta(days=1)
    before = list(accumulate(count for _, count in counts))
    nearest = min(range(1, len(counts)), key=lambda place: abs(before[place - 1] / len(days) - share))
    return counts[nearest][0]
