"""What a viewpoint means for identity, and which names are the same: pure functions of the settings.

The rules of identity (paper §3.2): where the marks differ from side to side, the sides of one animal are different
identities; where they show on the outline, or only one viewpoint exists, they are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from resight.settings import SIDES, Only, Policy, Settings

# Spellings after folding: lower case, no separators, no digits at the end. Parts of the body are named together
# with a side in some sets; only the side is read from them. What stands in no line here maps to nothing.
_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "left": ("left", "l", "leftside", "sideleft", "leftflank", "flankleft", "leftprofile", "lefthandside"),
    "right": (
        "right",
        "r",
        "rightside",
        "sideright",
        "rightflank",
        "flankright",
        "rightprofile",
        "righthandside",
    ),
    "front": ("front", "f", "frontal", "frontside", "facing"),
    "back": ("back", "b", "rear", "behind", "backside", "posterior"),
    "up": ("up", "u", "top", "above", "fromabove", "dorsal", "overhead", "aerial", "topdown"),
    "down": ("down", "d", "bottom", "below", "frombelow", "ventral", "underside", "belly"),
}
_DIRECTION_SUFFIXES = ("front", "back", "rear", "up", "down", "top", "bottom")
_PARTS_WITH_A_SIDE = (
    "face",
    "ear",
    "earback",
    "body",
    "whiskers",
    "portrait",
    "eye",
    "fin",
    "head",
    "shoulder",
)


def _build_aliases() -> dict[str, str]:
    table = {spelling: viewpoint for viewpoint, spellings in _SPELLINGS.items() for spelling in spellings}
    for side in SIDES:
        for suffix in _DIRECTION_SUFFIXES:
            table[f"{side}{suffix}"] = table[f"{suffix}{side}"] = side  # leftfront, frontleft -> left
        for part in _PARTS_WITH_A_SIDE:
            table[f"{side}{part}"] = side
    for vertical in ("up", "down"):
        for suffix in ("front", "back", "rear"):
            table[f"{vertical}{suffix}"] = vertical
    return table


VIEWPOINT_ALIASES: Mapping[str, str] = _build_aliases()


def fold(spelling: str) -> str:
    """Bring a viewpoint's spelling to the form in which aliases are compared."""
    kept = "".join(letter for letter in spelling.lower() if letter.isalnum())
    return kept.rstrip("0123456789") or kept


class ViewpointTable:
    """Maps the spellings of sources onto the six canonical viewpoints."""

    def __init__(self, more: Mapping[str, str] | None = None) -> None:
        """Take the built-in table and the project's own aliases, which win."""
        self._table = dict(VIEWPOINT_ALIASES) | {fold(name): to for name, to in (more or {}).items()}

    def canonical(self, spelling: str | None) -> str | None:
        """One of left, right, front, back, up, down; ``None`` for what is unknown or not in the table."""
        return None if spelling is None else self._table.get(fold(spelling))


def default_policy(viewpoints: Iterable[str | None]) -> Policy:
    """``separate`` where a species has annotations that are left or right, else ``ignore``."""
    return "separate" if any(viewpoint in SIDES for viewpoint in viewpoints) else "ignore"


def describe(policy: Policy) -> str:
    """The policy as it is written in ``resight.toml``."""
    if isinstance(policy, Only):
        return f"only {', '.join(policy.viewpoints)}"
    return policy


def is_allowed(policy: Policy, viewpoint: str | None) -> bool:
    """Whether annotations of this viewpoint take part in training, splits and matching."""
    return not isinstance(policy, Only) or viewpoint in policy.viewpoints


def separates_sides(policy: Policy) -> bool:
    """Whether left and right are different identities; where both are among the only ones, nobody said they match."""
    if isinstance(policy, Only):
        return set(SIDES) <= set(policy.viewpoints)
    return policy == "separate"


def identity_of(individual: str | None, viewpoint: str | None, policy: Policy) -> str | None:
    """The identity: the individual, or ``individual|side`` where the policy separates the sides."""
    if individual is None:
        return None
    if separates_sides(policy) and viewpoint in SIDES:
        return f"{individual}|{viewpoint}"
    return individual


def side_of(identity: str) -> str | None:
    """The side in an identity of :func:`identity_of`; ``None`` where it has none."""
    _, bar, side = identity.rpartition("|")
    return side if bar and side in SIDES else None


def individual_of(identity: str) -> str:
    """An identity of :func:`identity_of` without its side."""
    return identity if side_of(identity) is None else identity.rpartition("|")[0]


def animal_of(species: str) -> str:
    """A species string without the part: body and head of one animal are two strings, and the same individuals."""
    return species.partition("+")[0]


def part_of(species: str) -> str | None:
    """The part of the body a species string names: ``holstein_cow+face`` shows the ``face``."""
    _, plus, part = species.partition("+")
    return part.strip() or None if plus else None


@dataclass(frozen=True)
class MergeTable:
    """Which sources' species are one species, and which of their individuals are the same animal."""

    species: Mapping[tuple[str | None, str], str] = field(default_factory=dict)
    individuals: Mapping[tuple[str | None, str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> MergeTable:
        """Build the table from ``resight.toml``; an entry for one source wins over one for all."""
        return cls(
            {(merge.source, name): merge.into for merge in settings.species_merges for name in merge.names},
            {
                (merge.source, merge.species, name): merge.into
                for merge in settings.individual_merges
                for name in merge.names
            },
        )

    def species_name(self, source: str, species: str) -> str:
        """The species under which ``species`` of this source is kept."""
        return self.species.get((source, species)) or self.species.get((None, species)) or species

    def individual_name(self, source: str, species: str, name: str) -> str:
        """The name under which ``name`` of this source is kept; ``species`` is the merged one."""
        merged = self.individuals.get((source, species, name)) or self.individuals.get((None, species, name))
        return merged or name
