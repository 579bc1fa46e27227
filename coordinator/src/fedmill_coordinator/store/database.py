# SPDX-License-Identifier: Apache-2.0
"""The connection under the SQL store: opened lazily, its faults told in plain words."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import MsgspecError, Struct, convert, structs
from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    RowMapping,
    Table,
    and_,
    create_engine,
    event,
    false,
    func,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from fedmill_coordinator.store import migrations, rules, schema
from fedmill_coordinator.store.records import Record
from fedmill_shared.errors import StoreError

# A receipt is sent after its commit, so a commit must survive a power cut: synchronous FULL.
_PRAGMAS = ("busy_timeout=5000", "synchronous=FULL", "foreign_keys=ON")
_WAL_ATTEMPTS = 100
_RESTORE = "stop the coordinator, then restore the file from a backup or move it aside"
_FAULTS = {
    "SQLITE_NOTADB": ("is not a database, or is damaged", _RESTORE),
    "SQLITE_CORRUPT": ("is damaged", _RESTORE),
    "SQLITE_FULL": ("cannot grow: the disk is full", "free some space"),
    "SQLITE_BUSY": ("is locked by another process", "end the other process and try again"),
    "SQLITE_CANTOPEN": ("cannot be opened", "check that its folder exists and is ours to write"),
    "SQLITE_READONLY": ("is read-only", "give the service user the right to write it"),
    "SQLITE_IOERR": ("cannot be read or written", "check the disk"),
}


class Database:
    """One engine for one URL, with the schema in place after the first use."""

    def __init__(self, url: str | URL) -> None:
        """``url`` is SQLAlchemy's; nothing is opened yet."""
        self._url = url
        self._engine: Engine | None = None

    @property
    def place(self) -> str:
        """The file, or the URL without its password: what errors name."""
        url = make_url(self._url)
        if url.get_backend_name() == "sqlite" and url.database:
            return str(Path(url.database))
        return url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Close all connections; the next use opens them again."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._plain_words("a query"), self._opened().connect() as connection:
            yield connection

    @contextmanager
    def write(self, what: str) -> Iterator[Connection]:
        """A transaction that commits ``what`` at its end, or nothing if its body raises.

        Raises:
            StoreError: the database cannot be written, or a constraint forbids ``what``.
        """
        with self._plain_words(what), _transaction(self._opened()) as connection:
            yield connection

    def rows(self, statement: Executable, kind: type[Record]) -> list[Record]:
        """Every row of ``statement`` as a record of ``kind``."""
        with self.read() as connection:
            return found(connection, statement, kind)

    def _opened(self) -> Engine:
        if self._engine is None:
            engine = self._created()
            if engine.dialect.name == "sqlite":
                event.listen(engine, "connect", _configure)
                event.listen(engine, "begin", _begin)
            try:
                self._prepare(engine)
            except BaseException:
                engine.dispose()
                raise
            self._engine = engine
        return self._engine

    def _created(self) -> Engine:
        try:
            return create_engine(self._url)
        except ImportError as error:
            raise StoreError(
                f"{self.place}: the driver {error.name} is missing",
                remedy="install it, or choose another driver in the database's URL",
            ) from error

    def _prepare(self, engine: Engine) -> None:
        with engine.connect() as connection:
            found = self._schema_version(connection)
        if found is None:
            with _transaction(engine) as connection:
                # Another process may have been first while we waited for the lock.
                if self._schema_version(connection) is None:
                    schema.metadata.create_all(connection)
                    first = insert(schema.schema_version).values(version=schema.VERSION)
                    connection.execute(first)
        elif found < schema.VERSION:
            self._migrate(engine)
        elif found > schema.VERSION:
            raise StoreError(
                f"{self.place}: schema {found} was made by a newer fedmill, this one knows up to "
                f"{schema.VERSION}",
                remedy="install the newer fedmill again, or restore the backup made before it",
            )

    def _migrate(self, engine: Engine) -> None:
        table = schema.schema_version
        with _transaction(engine) as connection:
            # PostgreSQL locks a row when it is written: who comes second waits, then sees it done.
            connection.execute(update(table).values(version=table.c.version))
            found = self._schema_version(connection)
            if found is not None:
                migrations.migrate(connection, found)

    def _schema_version(self, connection: Connection) -> int | None:
        tables = inspect(connection).get_table_names()
        if tables and schema.schema_version.name not in tables:
            raise StoreError(
                f"{self.place}: is the database of another program",
                remedy="choose another file for the coordinator's database",
            )
        if not tables:
            return None
        newest = select(func.max(schema.schema_version.c.version))
        found: int | None = connection.execute(newest).scalar_one()
        return found

    @contextmanager
    def _plain_words(self, what: str) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            detail = f"it contradicts what is stored ({error.orig})"
            raise rules.conflict(what, detail) from error
        except DBAPIError as error:
            raise self._fault(error) from error
        except SQLAlchemyError as error:
            raise StoreError(f"database: {error}", remedy="correct its URL") from error
        except MsgspecError as error:
            raise StoreError(
                f"{self.place}: holds a damaged row: {error}", remedy=_RESTORE
            ) from error

    def _fault(self, error: DBAPIError) -> StoreError:
        # The driver's own errors, as for text that is not UTF-8, carry no code.
        name: str = getattr(error.orig, "sqlite_errorname", "")
        text, remedy = _FAULTS.get("_".join(name.split("_")[:2]), ("cannot be used", _RESTORE))
        return StoreError(f"{self.place}: {text}: {error.orig}", remedy=remedy)


def _configure(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver would begin transactions by itself, too late for reads; _begin does it.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    for attempt in range(_WAL_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # The first switch of a new file needs it alone, and does not heed busy_timeout.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or attempt == _WAL_ATTEMPTS - 1:
                raise
            time.sleep(0.05)
        else:
            break


def _begin(connection: Connection) -> None:
    # A writer takes the lock at once: one that starts as a reader cannot wait for it.
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    with (
        engine.connect().execution_options(immediate=True) as connection,
        connection.begin(),
    ):
        yield connection


def key(table: Table, **values: object) -> ColumnElement[bool]:
    """The condition that the named columns of ``table`` have these values."""
    # A number beyond 63 bits, which an agent may send, is in no row; SQLite would choke on it.
    if any(isinstance(value, int) and value >= 2**63 for value in values.values()):
        return false()
    return and_(*(table.c[name] == value for name, value in values.items()))


def add(connection: Connection, table: Table, record: Struct) -> None:
    """Insert ``record`` into its table."""
    connection.execute(insert(table).values(structs.asdict(record)))


def save(connection: Connection, table: Table, record: Struct) -> None:
    """Insert ``record``, or replace the row that has its primary key."""
    values = structs.asdict(record)
    same = key(table, **{column.name: values[column.name] for column in table.primary_key})
    if connection.execute(update(table).where(same).values(values)).rowcount == 0:
        add(connection, table, record)


def found(connection: Connection, statement: Executable, kind: type[Record]) -> list[Record]:
    """Every row of ``statement`` as a record of ``kind``."""
    return [_record(row, kind) for row in connection.execute(statement).mappings()]


def find(
    connection: Connection, table: Table, kind: type[Record], **values: object
) -> Record | None:
    """The one row of ``table`` with these values, as a record of ``kind``."""
    row = connection.execute(select(table).where(key(table, **values))).mappings().one_or_none()
    return None if row is None else _record(row, kind)


def _record(row: RowMapping, kind: type[Record]) -> Record:
    return convert({field: row[field] for field in kind.__struct_fields__}, kind)
