"""``resight.toml``: what a person decides about a project, checked when read and edited without losing comments."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from resight.artefacts import write_text
from resight.errors import InputError, ProjectExists, ProjectNotFound, SettingsError

FILE_NAME = "resight.toml"
ENVIRONMENT_VARIABLE = "RESIGHT_PROJECT"

CANONICAL_VIEWPOINTS = ("left", "right", "front", "back", "up", "down")
SIDES = ("left", "right")

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
    known = {"catalogue", "model", "images", "viewpoints", "merge", "sources", "recipes"}
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
    return Settings(
        folder=folder,
        catalogue_url=check.text(tables["catalogue"].get("url", "sqlite:///catalogue.db"), "catalogue.url"),
        default_model=None if default is None else check.text(default, "model.default"),
        image_roots={
            name: (folder / Path(check.text(value, f"images.roots.{name}")).expanduser()).resolve()
            for name, value in roots.items()
        },
        viewpoint_policy={name: check.policy(value, f"viewpoints.policy.{name}") for name, value in policy.items()},
        viewpoint_aliases={
            name: check.viewpoint(value, f"viewpoints.aliases.{name}") for name, value in aliases.items()
        },
        species_merges=species_merges,
        individual_merges=individual_merges,
        recipes={name: check.table(value, f"recipes.{name}") for name, value in tables["recipes"].items()},
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
    """Write another image root into ``resight.toml`` and read it anew; a root that is there is left as it is."""
    if settings.image_roots.get(name) == folder.resolve():
        return settings
    return _set(settings, ("images", "roots", name), folder.resolve().as_posix())


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
