"""What speaks for and against a candidate, and what an answer says of the query, in words of a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from resight.settings import SIDES

if TYPE_CHECKING:
    from resight.calibration.fusion import NotEnough, Support
    from resight.matching.candidates import Scored

FEW_MATCHES = 15
"""Fewer matching points say nothing for a candidate: two animals that only look alike commonly have more."""

FAR_AHEAD, HARDLY_AHEAD = 0.15, 0.02
"""Lead of the first name over the next, in cosine. Where the network knows a species at all, most leaders that are so
far ahead are right, and most of those that are hardly ahead are wrong. Both tell a distance and promise nothing."""

PROBABLE = 0.8
"""From here on a P(new) is called probable: it is at least four times as likely as not."""

STANDS_OUT = 0.5
"""A candidate below this P(same) is more likely another animal."""


@dataclass(frozen=True)
class Facts:
    """What is known of a query and one candidate.

    Attributes:
        cosine: Of their vectors.
        place: Among the candidates by cosine, from 1.
        lead: Of the candidate's cosine over the best of any other name; ``None`` without another name.
        matches: Points that match; ``None`` where that was not looked for.
        stopped: Whether it was not looked for because a candidate before it was decisive.
        agreeing: How many of these agree with one map; ``None`` where that was not asked for.
        matches_elsewhere: The most points that match with a candidate of another name; ``None`` as above, and without
            another name.
        query_viewpoint: From where the query is seen; ``None`` where not known.
        viewpoint: The candidate likewise.
        query_proposed: Whether the query's viewpoint is a proposal that nobody has accepted.
        proposed: The candidate's likewise.
    """

    cosine: float
    place: int
    lead: float | None = None
    matches: int | None = None
    stopped: bool = False
    agreeing: int | None = None
    matches_elsewhere: int | None = None
    query_viewpoint: str | None = None
    viewpoint: str | None = None
    query_proposed: bool = False
    proposed: bool = False


def reasons(facts: Facts) -> tuple[str, ...]:
    """What speaks for and against a candidate, the strongest kind of evidence first."""
    found = [_points(facts), _network(facts), _views(facts)]
    return tuple(text for text in found if text is not None)


def basis(p_same: float | None, support: Support | None, lacking: NotEnough | None) -> str | None:
    """What a P(same) rests on, or why there is none; ``None`` where nothing is calibrated.

    Args:
        p_same: The probability, or ``None``.
        support: What the calibration rests on.
        lacking: Why the calibration gives none.
    """
    if p_same is not None and support is not None:
        return (
            f"P(same) rests on {_counted(support.confirmed, 'confirmed pair')} of "
            f"{_counted(support.individuals, 'individual')}"
        )
    if p_same is None and lacking is not None:
        return f"no probability: {lacking.reason}"
    return None


def with_reasons(
    shortlist: Sequence[Scored],
    viewpoint: str | None,
    *,
    query_proposed: bool = False,
    support: Support | None = None,
    lacking: NotEnough | None = None,
) -> list[Scored]:
    """Give each candidate of a shortlist its reasons.

    Args:
        shortlist: All that was compared closely, in any order; names are looked for among them.
        viewpoint: From where the query is seen.
        query_proposed: Whether that is a proposal that nobody has accepted.
        support: What the probabilities rest on.
        lacking: Why there are none.
    """
    explained = []
    for one, facts in zip(shortlist, facts_of(shortlist, viewpoint, query_proposed=query_proposed), strict=True):
        rests_on = basis(one.p_same, support, lacking)
        explained.append(replace(one, reasons=reasons(facts) + (() if rests_on is None else (rests_on,))))
    return explained


def facts_of(shortlist: Sequence[Scored], viewpoint: str | None, *, query_proposed: bool = False) -> list[Facts]:
    """What :func:`reasons` asks for, of each candidate of a shortlist, in its order.

    Args:
        shortlist: In any order; of equal cosines the first is the nearer.
        viewpoint: From where the query is seen.
        query_proposed: Whether that is a proposal.
    """
    by_cosine = sorted(range(len(shortlist)), key=lambda row: -shortlist[row].cosine)
    place = {row: place for place, row in enumerate(by_cosine, start=1)}
    looked_for = any(one.evidence is not None for one in shortlist)
    facts = []
    for row, one in enumerate(shortlist):
        name = one.annotation.individual
        # A candidate without a name may be the same animal: it is no other name, and has none itself.
        others = [] if name is None else [x for x in shortlist if x.annotation.individual not in (None, name)]
        matched = [x.evidence.count for x in others if x.evidence is not None]
        facts.append(
            Facts(
                cosine=one.cosine,
                place=place[row],
                lead=one.cosine - max(x.cosine for x in others) if others else None,
                matches=None if one.evidence is None else one.evidence.count,
                stopped=looked_for and one.evidence is None,
                agreeing=None if one.evidence is None else one.evidence.inliers,
                matches_elsewhere=max(matched) if matched and one.evidence is not None else None,
                query_viewpoint=viewpoint,
                viewpoint=one.annotation.viewpoint,
                query_proposed=query_proposed,
                proposed="viewpoint" in one.annotation.proposed,
            )
        )
    return facts


def compared_locally(compared: int, of: int) -> str:
    """How far local evidence went along a shortlist."""
    return f"Compared locally: {compared:,} of {of:,}, then the evidence was decisive."


def did_not_help(species: str, by_cosine: float, by_all: float) -> str:
    """That a species is better matched without local evidence, from the shares of queries first right."""
    return (
        f"Local evidence did not help {species} when it was calibrated: first right {_whole(by_cosine)} % by the "
        f"embedding, {_whole(by_all)} % with it."
    )


def new_or_known(p_new: float, ci95: tuple[float, float] | None = None, p_same: Sequence[float | None] = ()) -> str:
    """What P(new) says of a query, such as ``probably new: P(new) 87 % (71–95)``.

    Args:
        p_new: The probability that the animal is none of those compared.
        ci95: Its interval.
        p_same: Of the candidates. Where an animal is probably known and none of them reaches one half, that is said:
            few new animals are expected, and yet nothing here is the animal for sure.
    """
    best = max((p for p in p_same if p is not None), default=None)
    if p_new >= PROBABLE:
        verdict = "probably new"
    elif 1 - p_new >= PROBABLE:
        verdict = "probably known"
    else:
        verdict = "new or known, that is open"
    told = f"{verdict}: P(new) {percent(p_new, ci95)}"
    if verdict == "probably known" and best is not None and best < STANDS_OUT:
        return f"{told}, but no candidate stands out, the best has {percent(best)}"
    return told


def percent(p: float, ci95: tuple[float, float] | None = None) -> str:
    """A probability as ``93 % (85–97)``, without the brackets where no interval is known.

    Nothing is certain: what would be rounded to 0 or 100 is told as ``<1`` or ``>99``.
    """
    text = f"{_whole(p)} %"
    if ci95 is None or not all(math.isfinite(end) for end in ci95):
        return text
    return f"{text} ({_whole(ci95[0])}–{_whole(ci95[1])})"


def _whole(p: float) -> str:
    text = f"{100 * p:.0f}"
    return {"0": "<1", "100": ">99"}.get(text, text)


def _points(facts: Facts) -> str | None:
    if facts.matches is None:
        return "points not compared: a nearer candidate was decisive" if facts.stopped else None
    if facts.matches == 0:
        return "no points match"
    noun = "point matches" if facts.matches == 1 else "points match"
    few = "only few: " if facts.matches < FEW_MATCHES else ""
    text = f"{few}{facts.matches:,} {noun}"
    if facts.agreeing is not None:
        text += f", {facts.agreeing:,} of them in one position of the body"
    if facts.matches_elsewhere is not None:
        text += f"; with another name {facts.matches_elsewhere:,} at most"
    return text


def _network(facts: Facts) -> str:
    if facts.place > 1:
        return f"number {facts.place} by the network (cosine {facts.cosine:.2f})"
    text = f"the nearest by the network (cosine {facts.cosine:.2f})"
    if facts.lead is not None and facts.lead >= FAR_AHEAD:
        return f"{text}, far before the next name"
    if facts.lead is not None and facts.lead <= HARDLY_AHEAD:
        return f"{text}, hardly before the next name"
    return text


def _views(facts: Facts) -> str:
    here, there = facts.query_viewpoint, facts.viewpoint
    if here is None or there is None:
        unknown = [name for name, view in (("query", here), ("candidate", there)) if view is None]
        return f"viewpoint of the {' and the '.join(unknown)} unknown"
    sides = here in SIDES and there in SIDES
    if here == there:
        text = f"same side, both {here}" if sides else f"same viewpoint, both {here}"
    elif sides:
        text = f"other side: query {here}, candidate {there}"
    else:
        text = f"other viewpoint: query {here}, candidate {there}"
    guessed = [name for name, is_so in (("query", facts.query_proposed), ("candidate", facts.proposed)) if is_so]
    return f"{text} (only proposed for the {' and the '.join(guessed)})" if guessed else text


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
