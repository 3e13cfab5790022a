"""``resight.toml``: what a person decides about a project, checked when read and edited without losing comments."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from resight.artefacts import write_text
from resight.errors import InputError, ProjectExists, ProjectNotFound, SettingsError

FILE_NAME = "resight.toml"
ENVIRONMENT_VARIABLE = "RESIGHT_PROJECT"

_OFFSET = re.compile(r"([+-])([0-9]{1,6}):([0-5][0-9])(?::([0-5][0-9]))?")

CANONICAL_VIEWPOINTS = ("left", "right", "front", "back", "up", "down")
SIDES = ("left", "right")
EXTRACTORS = ("aliked-n16", "aliked-n16rot", "disk", "xfeat", "loftr")
FOREGROUNDS = ("estimate", "box")

TEMPLATE = """\
# Settings of a resight project. Commands read this file anew each time.

[catalogue]
url = "sqlite:///catalogue.db"  # relative to this file

[model]
# default = "my-run"            # else the newest run, else the packaged ImageNet model

# What each species' sides mean: "separate" (left and right of one animal are never matched to each other),
# "ignore" (every viewpoint shows the same marks), or { only = ["left"] }.
# A species not named here is "separate" where it has annotations that are left or right.
[viewpoints.policy]
# nyala = "separate"
# "whale_humpback+fluke" = "ignore"

# Further spellings of viewpoints; letters' case, spaces, "-" and "_" do not matter.
[viewpoints.aliases]
# flank_l = "left"

# Which sources' species are one species, and which of their individuals are the same animal.
# [[merge.species]]
# into = "lion"
# from = ["panthera_leo", "african lion"]      # in every source, or only in the one named:
# source = "reserve-2023"
#
# [[merge.individuals]]
# species = "lion"
# into = "Ayo"
# from = ["L-017"]
# source = "reserve-2023"

# Sources whose individuals bear names that hold across species (database ids, tags).
[sources]
# global_ids = ["tag-database"]

# Raw photos of one folder (or camera), each no more than so many minutes after the one before, are one encounter.
[encounters]
# same = "folder"               # or "camera"
# within_minutes = 60

# What is added to a camera's time, by the camera's name as `resight status --cameras` shows it, or by a folder below
# the photos' root. A clock that was never set may be told by one example instead.
[clocks]
# "NIKON D500 3051" = "-01:00:00"
# "DCIM/101CANON" = { showed = "1970-01-02T03:04:00", was = "2024-05-01T10:00:00" }

# Annotations that these rules catch are left out of training, splits and matching, and `resight status --list filtered`
# names them with their rule. Under [quality.SPECIES] stands what holds for one species instead.
[quality]
# min_side_px = 60              # shorter side of the box, in pixels of the photo
# min_sharpness = 13
# min_contrast = 10
# max_cut_share = 0.3           # of the box outside of the frame or cut by it
# min_confidence = 0.3          # of the detector
# min_quality = 2               # the grade
# near_duplicates = "one"       # of photos that look the same keep the sharpest; else "keep"

# How `--rerank local` compares keypoints. Under [local.SPECIES] stands what holds for one species instead.
[local]
# extractor = "aliked-n16"      # "aliked-n16rot" for animals seen from above; "disk", "xfeat", "loftr"
# points = 512                  # keypoints an animal; 1000 or more of "loftr", whose points lie on a grid
# weights = "loftr_outdoor.ckpt"  # for "loftr" only: the authors' file, relative to this one
# shortlist = 50                # candidates of the embedding that are compared
# foreground = "estimate"       # where there is no outline: the animal found by its look; "box" for the whole box

# Training recipes of your own: a base (tiny, tuned, paper, … or another of yours) and what differs from it.
# [recipes.night]
# base = "tuned"
# epochs = 40
# augment.brightness = 0.5

# Where photos lie. A photo that has moved is found again by its content below any of these.
[images.roots]
"""


@dataclass(frozen=True)
class Only:
    """The viewpoint policy ``{ only = [...] }``: other viewpoints are left out and counted."""

    viewpoints: tuple[str, ...]


Policy = str | Only  # "separate", "ignore", or Only


@dataclass(frozen=True)
class SpeciesMerge:
    """Species names that stand for one species, in one source or (``source`` is ``None``) in all."""

    into: str
    names: tuple[str, ...]
    source: str | None = None


@dataclass(frozen=True)
class IndividualMerge:
    """Names that stand for one individual of ``species``, in one source or in all."""

    species: str
    into: str
    names: tuple[str, ...]
    source: str | None = None


@dataclass(frozen=True)
class EncounterRule:
    """Which raw photos were taken in one encounter.

    Attributes:
        same: ``folder`` or ``camera``: what photos of one encounter have in common.
        within_minutes: How long after the one before a photo still belongs to it.
    """

    same: str = "folder"
    within_minutes: float = 60.0


@dataclass(frozen=True)
class QualityRules:
    """What leaves an annotation out of training, splits and matching; ``None`` is no rule.

    Attributes:
        min_side_px: The shorter side of the box, in pixels of the photo.
        min_sharpness: See :func:`resight.quality.numbers.sharpness`.
        min_contrast: See :func:`resight.quality.numbers.contrast`.
        max_cut_share: See :func:`resight.quality.numbers.cut_share`.
        min_confidence: Of the detector, 0 to 1.
        min_quality: The grade.
        one_of_duplicates: Of near-duplicates only the sharpest is kept.
    """

    min_side_px: float | None = None
    min_sharpness: float | None = None
    min_contrast: float | None = None
    max_cut_share: float | None = None
    min_confidence: float | None = None
    min_quality: float | None = None
    one_of_duplicates: bool = False


@dataclass(frozen=True)
class LocalRules:
    """How keypoints are compared; see :mod:`resight.matching.local`.

    Attributes:
        extractor: One of :data:`EXTRACTORS`.
        points: Keypoints an animal.
        weights: The file with LoFTR's weights, for that extractor only.
        shortlist: Candidates of the embedding that are compared, at most; the same for all species, for some of which
            `calibrate --recall` may find fewer.
        foreground: Where the keypoints of an annotation without outline are: ``box``, anywhere in its box, or
            ``estimate``, where :mod:`resight.matching.local.foreground` finds the animal.
    """

    extractor: str = "aliked-n16"
    points: int = 512
    shortlist: int = 50
    weights: Path | None = None
    foreground: str = "estimate"


@dataclass(frozen=True)
class Settings:
    """The settings of one project; every value is checked when the file is read."""

    folder: Path
    catalogue_url: str = "sqlite:///catalogue.db"
    default_model: str | None = None
    image_roots: Mapping[str, Path] = field(default_factory=dict)
    viewpoint_policy: Mapping[str, Policy] = field(default_factory=dict)
    viewpoint_aliases: Mapping[str, str] = field(default_factory=dict)
    species_merges: tuple[SpeciesMerge, ...] = ()
    individual_merges: tuple[IndividualMerge, ...] = ()
    global_id_sources: frozenset[str] = frozenset()
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    encounter_rule: EncounterRule = EncounterRule()
    clocks: Mapping[str, timedelta] = field(default_factory=dict)
    quality: QualityRules = QualityRules()
    quality_of: Mapping[str, QualityRules] = field(default_factory=dict)
    local: LocalRules = LocalRules()
    local_of: Mapping[str, LocalRules] = field(default_factory=dict)

    def local_rules(self, species: str) -> LocalRules:
        """How keypoints of a species are compared: as its own rules say where it has some."""
        return self.local_of.get(species, self.local)

    def quality_rules(self, species: str | None) -> QualityRules:
        """The rules for a species: its own where it has some, else those for all."""
        return self.quality if species is None else self.quality_of.get(species, self.quality)

    @property
    def file(self) -> Path:
        """The settings file itself."""
        return self.folder / FILE_NAME

    @property
    def resolved_catalogue_url(self) -> str:
        """The database URL with a relative SQLite path made absolute."""
        prefix = "sqlite:///"
        if self.catalogue_url.startswith(prefix) and not self.catalogue_url.startswith("sqlite:////"):
            return f"{prefix}{self.folder / self.catalogue_url.removeprefix(prefix)}"
        return self.catalogue_url


def find_project(start: Path | None = None) -> Path:
    """Find the project folder: ``start``, else ``RESIGHT_PROJECT``, else the nearest parent with ``resight.toml``.

    Raises:
        ProjectNotFound: there is none.
    """
    named = start or (Path(os.environ[ENVIRONMENT_VARIABLE]) if os.environ.get(ENVIRONMENT_VARIABLE) else None)
    if named is not None:
        if (named / FILE_NAME).is_file():
            return named.resolve()
        raise ProjectNotFound(f"{named} holds no {FILE_NAME}; make a project there with: resight init {named}")
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    raise ProjectNotFound(
        f"no {FILE_NAME} in {here} or any folder above; make a project with `resight init DIR`, or name one with "
        f"`--project DIR` or {ENVIRONMENT_VARIABLE}"
    )


def write_new(folder: Path) -> Settings:
    """Write a new settings file into ``folder``.

    Raises:
        ProjectExists: there is one already.
        InputError: the folder cannot be made.
    """
    file = folder / FILE_NAME
    if file.exists():
        raise ProjectExists(f"{folder} is a project already; its settings are in {file}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(file, TEMPLATE)
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be made ({error.strerror}); name another") from None
    return read(folder)


def read(folder: Path) -> Settings:
    """Read and check ``resight.toml``.

    Raises:
        ProjectNotFound: there is no such file.
        SettingsError: naming the key, what stands there and what was expected.
    """
    file = folder / FILE_NAME
    try:
        document = tomlkit.parse(file.read_text(encoding="utf-8")).unwrap()
    except FileNotFoundError:
        raise ProjectNotFound(
            f"{folder} holds no {FILE_NAME}; make a project there with: resight init {folder}"
        ) from None
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read ({error.strerror}); check who may read it") from None
    except TOMLKitError as error:
        raise SettingsError(f"{file}: not valid TOML ({error}); mend that line") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    check = _Checker(file)
    known = {
        "catalogue", "model", "images", "viewpoints", "merge", "sources", "recipes", "encounters", "clocks", "quality",
        "local",
    }  # fmt: skip
    check.keys(document, known, "")
    tables = {name: check.table(document.get(name, {}), name) for name in known}
    check.keys(tables["catalogue"], {"url"}, "catalogue.")
    check.keys(tables["model"], {"default"}, "model.")
    check.keys(tables["images"], {"roots"}, "images.")
    check.keys(tables["viewpoints"], {"policy", "aliases"}, "viewpoints.")
    check.keys(tables["merge"], {"species", "individuals"}, "merge.")
    check.keys(tables["sources"], {"global_ids"}, "sources.")
    roots = check.table(tables["images"].get("roots", {}), "images.roots")
    policy = check.table(tables["viewpoints"].get("policy", {}), "viewpoints.policy")
    aliases = check.table(tables["viewpoints"].get("aliases", {}), "viewpoints.aliases")
    default = tables["model"].get("default")
    species_merges = tuple(
        check.species_merge(entry, f"merge.species[{index}]")
        for index, entry in enumerate(check.tables(tables["merge"].get("species", []), "merge.species"))
    )
    individual_merges = tuple(
        check.individual_merge(entry, f"merge.individuals[{index}]")
        for index, entry in enumerate(check.tables(tables["merge"].get("individuals", []), "merge.individuals"))
    )
    _check_merges(file, species_merges, individual_merges)
    local = check.local({k: v for k, v in tables["local"].items() if not isinstance(v, dict)}, "local")
    return Settings(
        folder=folder,
        catalogue_url=check.text(tables["catalogue"].get("url", "sqlite:///catalogue.db"), "catalogue.url"),
        default_model=None if default is None else check.text(default, "model.default"),
        image_roots={name: check.path(value, f"images.roots.{name}") for name, value in roots.items()},
        viewpoint_policy={name: check.policy(value, f"viewpoints.policy.{name}") for name, value in policy.items()},
        viewpoint_aliases={
            name: check.viewpoint(value, f"viewpoints.aliases.{name}") for name, value in aliases.items()
        },
        species_merges=species_merges,
        individual_merges=individual_merges,
        recipes={name: check.table(value, f"recipes.{name}") for name, value in tables["recipes"].items()},
        encounter_rule=check.encounter_rule(tables["encounters"]),
        clocks={name: check.clock(value, f"clocks.{name}") for name, value in tables["clocks"].items()},
        quality=check.quality(
            {name: value for name, value in tables["quality"].items() if not isinstance(value, dict)}, "quality"
        ),
        quality_of={
            name: check.quality(value, f"quality.{name}")
            for name, value in tables["quality"].items()
            if isinstance(value, dict)
        },
        local=local,
        local_of={k: check.local(v, f"local.{k}", local) for k, v in tables["local"].items() if isinstance(v, dict)},
        global_id_sources=frozenset(check.texts(tables["sources"].get("global_ids", []), "sources.global_ids")),
    )


def _check_merges(file: Path, species: Sequence[SpeciesMerge], individuals: Sequence[IndividualMerge]) -> None:
    """Refuse a merge table that says two things at once, or whose entries would have to be followed in a chain."""
    renamed: dict[tuple[str | None, str, str], str] = {}
    entries = [(m.source, "", name, m.into) for m in species for name in m.names]
    entries += [(m.source, m.species, name, m.into) for m in individuals for name in m.names]
    for source, scope, name, into in entries:
        if renamed.setdefault((source, scope, name), into) != into:
            raise SettingsError(
                f"{file}: {name!r} is merged into {renamed[source, scope, name]!r} and into {into!r}; keep one of them"
            )
    for source, scope, name, into in entries:
        onward = renamed.get((source, scope, into)) or renamed.get((None, scope, into))
        if onward not in (None, into):
            raise SettingsError(
                f"{file}: {name!r} is merged into {into!r}, which is merged into {onward!r}; write the last one in both"
            )
    for merge in individuals:
        species_now = renamed.get((merge.source, "", merge.species)) or renamed.get((None, "", merge.species))
        if species_now not in (None, merge.species):
            raise SettingsError(
                f"{file}: merge.individuals names {merge.species!r}, which is merged into {species_now!r}; "
                f"write species = {species_now!r}"
            )


def add_image_root(settings: Settings, name: str, folder: Path) -> Settings:
    """Write another image root into ``resight.toml`` and read it anew; a root that is there is left as it is.

    A folder inside the project is written relative to it, so that the project may be moved.
    """
    resolved, project = folder.resolve(), settings.folder.resolve()
    if settings.image_roots.get(name) == resolved:
        return settings
    place = resolved.relative_to(project) if resolved.is_relative_to(project) else resolved
    return _set(settings, ("images", "roots", name), place.as_posix())


def set_viewpoint_policy(settings: Settings, species: str, policy: str) -> Settings:
    """Write a species' viewpoint policy (``separate`` or ``ignore``) into ``resight.toml`` and read it anew."""
    return _set(settings, ("viewpoints", "policy", species), policy)


def _set(settings: Settings, keys: tuple[str, str, str], value: str) -> Settings:
    document = tomlkit.parse(settings.file.read_text(encoding="utf-8"))
    outer = document.setdefault(keys[0], tomlkit.table())
    inner = outer.setdefault(keys[1], tomlkit.table())
    inner[keys[2]] = value
    write_text(settings.file, tomlkit.dumps(document))
    return read(settings.folder)


def _moment(value: object) -> datetime:
    """A date and time as TOML or text has it, without a zone."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found.replace(tzinfo=None)


@dataclass(frozen=True)
class _Checker:
    file: Path

    def fail(self, key: str, value: object, expected: str) -> SettingsError:
        return SettingsError(f"{self.file}: {key} is {value!r}; expected {expected}")

    def keys(self, table: Mapping[str, Any], known: set[str], prefix: str) -> None:
        for key in table:
            if key not in known:
                near = get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
                raise SettingsError(f"{self.file}: unknown key {prefix}{key}; {hint}")

    def table(self, value: object, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.fail(key, value, f"a table, written as [{key}]")
        return value

    def tables(self, value: object, key: str) -> list[dict[str, Any]]:
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise self.fail(key, value, f"tables, each written as [[{key}]]")
        return value

    def text(self, value: object, key: str) -> str:
        if not isinstance(value, str) or not value:
            raise self.fail(key, value, "text in quotes")
        return value

    def path(self, value: object, key: str) -> Path:
        return (self.file.parent / Path(self.text(value, key)).expanduser()).resolve()

    def texts(self, value: object, key: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.fail(key, value, 'a list of texts such as ["a", "b"]')
        return tuple(value)

    def viewpoint(self, value: object, key: str) -> str:
        if value not in CANONICAL_VIEWPOINTS:
            raise self.fail(key, value, f"one of {', '.join(CANONICAL_VIEWPOINTS)}")
        return str(value)

    def policy(self, value: object, key: str) -> Policy:
        if value in ("separate", "ignore"):
            return str(value)
        if isinstance(value, dict) and set(value) == {"only"}:
            names = self.texts(value["only"], f"{key}.only")
            if names:
                return Only(tuple(self.viewpoint(name, f"{key}.only") for name in names))
        raise self.fail(key, value, '"separate", "ignore" or { only = ["left"] }')

    def number(self, value: object, key: str, *, at_most: float = math.inf) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= at_most:
            return float(value)
        raise self.fail(key, value, "a number from 0" + (f" to {at_most:g}" if at_most < math.inf else ""))

    def encounter_rule(self, table: Mapping[str, Any]) -> EncounterRule:
        self.keys(table, {"same", "within_minutes"}, "encounters.")
        rule = EncounterRule()
        same = table.get("same", rule.same)
        if same not in ("folder", "camera"):
            raise self.fail("encounters.same", same, '"folder" or "camera"')
        minutes = self.number(table.get("within_minutes", rule.within_minutes), "encounters.within_minutes")
        return EncounterRule(str(same), minutes)

    def clock(self, value: object, key: str) -> timedelta:
        """An offset: ``-01:00:00``, or what the clock showed at a known time."""
        if isinstance(value, str) and (parts := _OFFSET.fullmatch(value)):
            offset = timedelta(hours=int(parts[2]), minutes=int(parts[3]), seconds=int(parts[4] or 0))
            return -offset if parts[1] == "-" else offset
        if isinstance(value, dict) and set(value) == {"showed", "was"}:
            try:
                showed, was = (_moment(value[name]) for name in ("showed", "was"))
            except (TypeError, ValueError):
                raise self.fail(key, value, "both as YYYY-MM-DDTHH:MM:SS, as the camera and the place had it") from None
            return was - showed
        raise self.fail(
            key, value, '"+HH:MM:SS" or "-HH:MM:SS", or { showed = "1970-01-01T00:10:00", was = "2024-05-01T10:00:00" }'
        )

    def quality(self, table: Mapping[str, Any], key: str) -> QualityRules:
        numbers = ("min_side_px", "min_sharpness", "min_contrast", "max_cut_share", "min_confidence", "min_quality")
        shares = ("max_cut_share", "min_confidence")
        self.keys(table, {*numbers, "near_duplicates"}, f"{key}.")
        duplicates = table.get("near_duplicates", "keep")
        if duplicates not in ("keep", "one"):
            raise self.fail(f"{key}.near_duplicates", duplicates, '"keep" or "one"')
        limits = {
            name: self.number(table[name], f"{key}.{name}", at_most=1.0 if name in shares else math.inf)
            for name in numbers
            if name in table
        }
        return QualityRules(**limits, one_of_duplicates=duplicates == "one")

    def local(self, table: Mapping[str, Any], key: str, usual: LocalRules | None = None) -> LocalRules:
        """Rules of a species where ``usual``, those of all, are given: its shortlist is theirs."""
        known = {"extractor", "points", "weights", "foreground"}
        self.keys(table, known if usual else {*known, "shortlist"}, f"{key}.")
        usual = usual or LocalRules()
        extractor = table.get("extractor", usual.extractor)
        weights = usual.weights
        if "weights" in table:
            weights = self.path(table["weights"], f"{key}.weights")
        if extractor not in EXTRACTORS:
            raise self.fail(f"{key}.extractor", extractor, f"one of {', '.join(EXTRACTORS)}")
        foreground = table.get("foreground", usual.foreground)
        if foreground not in FOREGROUNDS:
            raise self.fail(f"{key}.foreground", foreground, '"estimate" or "box"')
        numbers = {}
        for name, allowed in (("points", range(8, 4097)), ("shortlist", range(1, 1001))):
            number = table.get(name, getattr(usual, name))
            if type(number) is not int or number not in allowed:
                raise self.fail(f"{key}.{name}", number, f"a whole number from {allowed.start} to {allowed.stop - 1}")
            numbers[name] = number
        return LocalRules(extractor, **numbers, weights=weights, foreground=foreground)

    def species_merge(self, table: Mapping[str, Any], key: str) -> SpeciesMerge:
        self.keys(table, {"into", "from", "source"}, f"{key}.")
        return SpeciesMerge(
            self.text(table.get("into"), f"{key}.into"),
            self.texts(table.get("from"), f"{key}.from"),
            self.text(table["source"], f"{key}.source") if "source" in table else None,
        )

    def individual_merge(self, table: Mapping[str, Any], key: str) -> IndividualMerge:
        self.keys(table, {"species", "into", "from", "source"}, f"{key}.")
        return IndividualMerge(
            self.text(table.get("species"), f"{key}.species"),
            self.text(table.get("into"), f"{key}.into"),
            self.texts(table.get("from"), f"{key}.from"),
            self.text(table["source"], f"{key}.source") if "source" in table else None,
        )
