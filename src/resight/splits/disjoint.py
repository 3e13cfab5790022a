"""The disjoint protocol for one species: no individual on both sides, every test individual unseen.

1 − f(N) of the individuals, drawn from those that can be tested, give all their annotations to test, and nothing of
them is trained on; the others are trained on. The filters are the paper's (``paper.py``), and the draw is the same:
the unseen individuals of the paper's split of the same seed are among those that are tested here.
"""

from __future__ import annotations

from resight.splits.paper import SpeciesSplit, groups


class DisjointSplit(SpeciesSplit):
    """As the paper's split, with unseen individuals alone in test."""

    def _assign(self) -> None:
        of_individual = groups(self.individual, range(len(self.annotations)))
        alone, no_order = self._alone(), dict.fromkeys(self.encounter, 0)
        can_be_tested = [
            who
            for who, mine in of_individual.items()
            if self._pairs([a for a in mine if a in alone], no_order, lambda identity: True)
        ]
        drawn = self._shuffled("unseen", can_be_tested, self.individuals)
        most = max(1, round((1 - self.share) * self.n_individuals))
        self.unseen = set(drawn[: min(most, self.n_individuals - 1)])
        self._place(lambda a: self.individual[a] in self.unseen)

    def _remove_surplus(self, round_number: int) -> bool:
        return False  # there is one half

    def _give_back(self, round_number: int) -> None:
        """Nothing was reserved of the individuals that are trained on."""

    def _warn(self) -> None:
        if not self.test:
            self._note(
                "no test set: no individual beside those trained on has an identity with two encounters of its own"
            )
        self._warn_of_gaps()
