"""The one door to the database: connections, transactions, the schema's version and its migration."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import NullPool

from resight.artefacts import atomic_path
from resight.catalogue.schema import SCHEMA_VERSION, state
from resight.errors import CatalogueBusy, CatalogueOutdated, InputError, ResightError, SettingsError

BUSY_SECONDS = 60
_WRITES = {"resight_writes": True}


class Database:
    """A catalogue's database. Readers never block; writers wait for each other."""

    def __init__(self, url: str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        """Prepare to connect to ``url``; nothing is opened yet.

        Args:
            url: An SQLAlchemy URL with an absolute path.
            busy_seconds: How long a writer waits for another one.

        Raises:
            SettingsError: the URL cannot be used.
        """
        try:
            self._url = _parse(url)
            self._engine = create_engine(self._url, poolclass=NullPool)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise SettingsError(f"catalogue.url {url!r} cannot be used ({error}); expected sqlite:///FILE") from None
        self._busy_seconds = busy_seconds
        if self.is_sqlite:
            _prepare_sqlite(self._engine, busy_seconds)

    @property
    def is_sqlite(self) -> bool:
        """Whether the catalogue is a file."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path:
        """The database file of an SQLite catalogue."""
        return Path(self._url.database or "")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of the catalogue.

        Raises:
            CatalogueOutdated: the schema is another version's.
        """
        self._require_current_schema()
        with self._translated_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, *, raises_revision: bool = True) -> Iterator[tuple[Connection, int]]:
        """One change, all of it or nothing; gives the connection and the catalogue's revision number from then on.

        Args:
            raises_revision: Off for what adds no knowledge, such as the content hash of a photo known already.

        Raises:
            CatalogueOutdated: the schema is another version's.
            CatalogueBusy: another process kept writing for longer than we wait.
        """
        self._require_current_schema()
        with self._translated_errors():
            connection = self._engine.connect().execution_options(**_WRITES)
            with connection, connection.begin():
                if raises_revision:
                    connection.execute(update(state).values(revision=state.c.revision + 1))
                yield connection, connection.execute(select(state.c.revision)).scalar_one()

    def create(self) -> None:
        """Make an empty catalogue of the newest schema."""
        if self.is_sqlite:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        self._upgrade()

    def schema_version(self) -> str | None:
        """The version of the schema that is there, or ``None`` where there is no catalogue."""
        if self.is_sqlite and not self.file.is_file():
            return None
        with self._translated_errors(), self._engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
            return None if version is None else str(version)

    def migrate(self) -> Path | None:
        """Bring an older schema to the newest version, after a backup beside the file.

        Returns:
            The backup, or ``None`` where nothing had to be done.

        Raises:
            CatalogueOutdated: the schema is newer than this version of resight.
        """
        version = self.schema_version()
        if version == SCHEMA_VERSION:
            return None
        if version is None or version > SCHEMA_VERSION:
            raise CatalogueOutdated(self._version_message(version))
        if not self.is_sqlite:
            raise InputError(
                f"{self._url.render_as_string(hide_password=True)}: back the server's database up with pg_dump and "
                "run the migrations there; only SQLite catalogues are backed up by this command"
            )
        backup = self._back_up(version)
        self._upgrade()
        return backup

    def _require_current_schema(self) -> None:
        version = self.schema_version()
        if version != SCHEMA_VERSION:
            raise CatalogueOutdated(self._version_message(version))

    def _version_message(self, version: str | None) -> str:
        where = self.file if self.is_sqlite else self._url.render_as_string(hide_password=True)
        if version is None:
            return (
                f"{where} holds no resight catalogue; put the file back, or make a new project with: resight init DIR"
            )
        if version > SCHEMA_VERSION:
            return f"{where} has schema {version}, newer than the {SCHEMA_VERSION} known here; update resight"
        return f"{where} has schema {version}, this resight wants {SCHEMA_VERSION}; run: resight migrate (it backs up)"

    def _back_up(self, version: str) -> Path:
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        target = self.file.with_name(f"{self.file.stem}.backup-{version}-{moment}{self.file.suffix}")
        # SQLite's own backup copies a consistent state even while others read and write.
        with (
            atomic_path(target) as temporary,
            closing(sqlite3.connect(self.file)) as live,
            closing(sqlite3.connect(temporary)) as copy,
        ):
            live.backup(copy)
        return target

    def _upgrade(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        # A per cent sign in the folder's name would be read as the start of an interpolation.
        folder = str(Path(__file__).parent / "migrations").replace("%", "%%")
        config.set_main_option("script_location", folder)
        config.set_main_option("path_separator", "os")
        with self._translated_errors(), self._engine.connect().execution_options(**_WRITES) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            reason = str(error.orig)
            if "locked" in reason or "busy" in reason:
                raise CatalogueBusy(
                    f"{self.file}: another process has been writing for over {self._busy_seconds:g} s; "
                    "nothing was changed, try again when it is done"
                ) from None
            if "readonly" in reason or "unable to open" in reason:
                raise InputError(
                    f"{self.file} cannot be written, and SQLite writes beside it even to read; give yourself write "
                    "permission on the project's folder, or copy the project"
                ) from None
            raise ResightError(f"{self.file}: the database refused ({reason})") from error
        except IntegrityError:
            raise  # a rule of the schema was broken: a fault of the program, not of the file
        except DatabaseError as error:
            if not any(word in str(error.orig) for word in ("not a database", "malformed", "encrypted")):
                raise ResightError(f"{self.file}: the database refused ({error.orig})") from error
            raise InputError(
                f"{self.file} is no catalogue that can be read ({error.orig}); put a backup of the file in its place"
            ) from error


def _parse(url: str) -> URL:
    """An SQLite URL is taken as it stands: a folder's name may hold ``?`` or ``%``."""
    prefix = "sqlite:///"
    return URL.create("sqlite", database=url.removeprefix(prefix)) if url.startswith(prefix) else make_url(url)


def _prepare_sqlite(engine: Engine, busy_seconds: float) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # Else INSERT OR REPLACE would delete a row of the ledger without its trigger being asked.
        cursor.execute("PRAGMA recursive_triggers = ON")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A writer takes its lock at once: one that starts as a reader cannot wait, it fails when it comes to write.
        writes = connection.get_execution_options().get("resight_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
