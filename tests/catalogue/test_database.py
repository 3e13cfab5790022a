from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, insert, select, text, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from resight.catalogue import database as database_room
from resight.catalogue import schema, store
from resight.catalogue.database import Database
from resight.errors import CatalogueBusy, CatalogueOutdated, InputError, ResightError, SettingsError
from resight.project import Project

from .projects import annotations, contents, do_import, herd, make_older, row

MIGRATIONS = Path(database_room.__file__).parent / "migrations"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'catalogue.db'}", busy_seconds=0.2)
    made.create()
    return made


def write_ledger_row(database: Database) -> None:
    with database.writing() as (connection, revision):
        connection.execute(
            insert(schema.ledger).values(
                revision=revision, at_utc="2024", actor="a", action="import", annotation_key="k", individual_after="Ayo"
            )
        )


def revision_of(database: Database) -> int:
    with database.reading() as connection:
        return store.revision(connection)


def older_one(folder: Path) -> Database:
    """The folder's catalogue as its first schema has it."""
    make_older(folder / "catalogue.db", "0001")
    return Database(f"sqlite:///{folder / 'catalogue.db'}")


# Schema and migrations


def test_migrations_make_exactly_the_tables_of_the_schema(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_migrations_make_the_unique_rules_of_the_schema(database: Database, tmp_path: Path) -> None:
    # Unique rules without a name are not compared by Alembic on SQLite.
    engine = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    schema.metadata.create_all(engine)
    engine.dispose()

    def rules(file: Path) -> dict[str, set[tuple[str, ...]]]:
        with closing(sqlite3.connect(file)) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {
                name: {
                    tuple(column[2] for column in connection.execute(f"PRAGMA index_info('{index[1]}')"))
                    for index in connection.execute(f"PRAGMA index_list('{name}')")
                    if index[2]
                }
                for name in names
                if name != "alembic_version"
            }

    made = rules(database.file)
    assert made == rules(tmp_path / "other.db")
    assert ("source_id", "source_key") in made["annotations"]


def test_the_schema_version_is_that_of_the_newest_migration() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [schema.SCHEMA_VERSION]


def test_an_older_catalogue_is_refused_with_the_remedy(database: Database, tmp_path: Path) -> None:
    older = older_one(tmp_path)
    for attempt in (older.reading, older.writing):
        with pytest.raises(CatalogueOutdated, match=r"schema 0001.*wants 0003.*resight migrate"), attempt():
            pass


def test_migrating_keeps_the_rows_and_a_backup_of_what_was(database: Database, tmp_path: Path) -> None:
    write_ledger_row(database)
    older = older_one(tmp_path)
    backup = older.migrate()
    assert backup is not None
    assert backup.parent == tmp_path
    assert Database(f"sqlite:///{backup}").schema_version() == "0001"
    for file in (backup, older.file):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT individual_after FROM ledger").fetchall() == [("Ayo",)]
            assert connection.execute("SELECT revision FROM state").fetchall() == [(1,)]
    with older.writing() as (connection, _), pytest.raises(IntegrityError, match="append-only"):
        connection.execute(update(schema.ledger).values(actor="b"))
    assert older.migrate() is None
    assert len(list(tmp_path.glob("*backup*"))) == 1


@pytest.mark.parametrize("version", ["0001", "0002"])
def test_an_older_catalogue_says_the_same_once_migrated(tmp_path: Path, version: str) -> None:
    project = Project.init(tmp_path / "p")
    herd(tmp_path, [row(number) for number in range(4)])
    do_import(project, tmp_path / "herd.csv")
    before = annotations(project)
    make_older(project.database.file, version)
    project = Project(project.folder)
    project.migrate()
    assert annotations(project) == before
    again = do_import(project, tmp_path / "herd.csv")
    assert (again.added, again.updated, again.unchanged) == (0, 0, 4)


def test_a_migration_that_fails_leaves_the_catalogue_as_it_was(database: Database, tmp_path: Path) -> None:
    older = older_one(tmp_path)

    def fail(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if "ledger_refuses_delete" in statement:
            raise RuntimeError("the machine stops here")

    event.listen(Engine, "before_cursor_execute", fail)
    try:
        with pytest.raises(RuntimeError):
            older.migrate()
    finally:
        event.remove(Engine, "before_cursor_execute", fail)
    assert older.schema_version() == "0001"
    with closing(sqlite3.connect(older.file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall() == []
    assert older.migrate() is not None
    assert older.schema_version() == schema.SCHEMA_VERSION


def test_a_newer_catalogue_is_neither_opened_nor_migrated(database: Database) -> None:
    with closing(sqlite3.connect(database.file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(CatalogueOutdated, match="9999, newer than the 0003 known here; update resight"):
        database.migrate()
    with pytest.raises(CatalogueOutdated, match="9999"), database.reading():
        pass


@pytest.mark.parametrize("content", [None, b""])
def test_a_catalogue_that_is_not_there_says_so(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "c.db").write_bytes(content)
    absent = Database(f"sqlite:///{tmp_path / 'c.db'}")
    with pytest.raises(CatalogueOutdated, match="holds no resight catalogue"), absent.reading():
        pass
    with pytest.raises(CatalogueOutdated, match="holds no resight catalogue"):
        absent.migrate()


def test_a_file_that_is_no_database_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "c.db").write_bytes(b"this is no database " * 100)
    with (
        pytest.raises(InputError, match="is no catalogue that can be read"),
        Database(f"sqlite:///{tmp_path / 'c.db'}").reading(),
    ):
        pass


@pytest.mark.parametrize("url", ["nonsense", "nosuch://x/y", ""])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="expected sqlite:///FILE"):
        Database(url)


# Connections


def test_foreign_keys_hold_and_the_log_is_written_ahead(database: Database) -> None:
    with database.reading() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
    with pytest.raises(IntegrityError, match="FOREIGN KEY"), database.writing() as (connection, _):
        connection.execute(insert(schema.encounters).values(source_id=7, key="e"))


def test_the_ledger_is_append_only(database: Database) -> None:
    write_ledger_row(database)
    for statement in (
        "UPDATE ledger SET actor = 'b'",
        "DELETE FROM ledger",
        "INSERT OR REPLACE INTO ledger (id, revision, at_utc, actor, action, annotation_key) "
        "VALUES (1, 1, '', 'b', '', '')",
    ):
        with pytest.raises(IntegrityError, match="append-only"), database.writing() as (connection, _):
            connection.execute(text(statement))
    with database.reading() as connection:
        assert connection.execute(select(schema.ledger.c.actor)).scalars().all() == ["a"]


def test_the_revision_rises_with_a_change_and_not_with_what_is_only_learned(database: Database) -> None:
    assert revision_of(database) == 0
    with database.writing() as (_, revision):
        assert revision == 1
    with database.writing(raises_revision=False) as (_, revision):
        assert revision == 1
    assert revision_of(database) == 1


def test_a_change_that_fails_is_not_there(database: Database) -> None:
    individuals = insert(schema.individuals)
    twice = [{"scope": "lion", "name": "Ayo"}, {"scope": "lion", "name": "Ayo"}]
    with pytest.raises(IntegrityError), database.writing() as (connection, _):
        connection.execute(individuals, twice)
    with database.reading() as connection:
        assert connection.execute(select(schema.individuals)).all() == []
    assert revision_of(database) == 0


def test_a_second_writer_gets_a_clear_error_and_readers_see_the_state_before(database: Database) -> None:
    with database.writing() as (connection, _):
        connection.execute(insert(schema.individuals).values(scope="lion", name="Ayo"))
        start = time.monotonic()
        with pytest.raises(CatalogueBusy, match=r"over 0\.2 s; nothing was changed"), database.writing():
            pass
        assert time.monotonic() - start < 5
        assert revision_of(database) == 0
    assert revision_of(database) == 1


def test_other_refusals_of_the_database_are_told(database: Database) -> None:
    with pytest.raises(ResightError, match="no such table"), database.writing() as (connection, _):
        connection.execute(text("SELECT * FROM no_table"))


# Other processes

IMPORT = """
import sys
from pathlib import Path
from resight.catalogue.intake import ImportOptions
from resight.project import Project
{before}
Project.open(sys.argv[1]).import_(Path(sys.argv[2]), ImportOptions(source=sys.argv[3]))
"""


def importing(project: Project, path: Path, source: str, before: str = "") -> subprocess.Popen[str]:
    script = IMPORT.format(before=before)
    return subprocess.Popen(
        [sys.executable, "-c", script, str(project.folder), str(path), source], stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.init(tmp_path / "project")


def test_two_processes_that_import_at_once_both_succeed(project: Project, tmp_path: Path) -> None:
    paths = [
        herd(tmp_path / name, [row(n, individual=f"{name}{n % 5}") for n in range(20)], f"{name}.csv")
        for name in ("east", "west")
    ]
    started = [importing(project, path, path.stem) for path in paths]
    for process in started:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    again = Project(project.folder)
    assert set(again.settings.image_roots) == {"east", "west"}
    found = again.stats()
    assert (found.totals.annotations, found.totals.individuals, found.totals.sources) == (40, 10, 2)
    with again.database.reading() as connection:
        assert store.revision(connection) == 2


def test_a_process_that_is_killed_while_it_writes_changes_nothing(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "first", [row(n) for n in range(3)], "first.csv"))
    before, settings_before = contents(project), project.settings.file.read_bytes()
    path = herd(tmp_path / "second", [row(n, individual=f"other{n}") for n in range(3)], "second.csv")
    kill_at_the_end = (
        "import os, signal\n"
        "from resight.catalogue import intake\n"
        "intake.store.policies = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = importing(project, path, "second", kill_at_the_end)
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert contents(project) == before
    assert project.settings.file.read_bytes() == settings_before
    assert do_import(project, path, source="second").added == 3


def test_a_backup_of_a_catalogue_is_a_project_s_catalogue(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "first", [row(n) for n in range(3)]))
    older_one(project.folder)
    backup = project.migrate()
    assert backup is not None
    with pytest.raises(CatalogueOutdated):
        Project.open(project.folder).database.__class__(f"sqlite:///{backup}").reading().__enter__()
    shutil.copy(backup, project.database.file)
    assert project.migrate() is not None
    assert project.stats().totals.annotations == 3
