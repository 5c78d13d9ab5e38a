"""Exports into a table of a database, by SQLAlchemy: what was there is replaced in one transaction.

The URL of a database may hold a password. It is in no message: an error names the database without
it, and no statement is shown with its values.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recsys.columns import COHORT, RUN_DATE, RUN_ID
from recsys.config.redaction import names_secret, redact
from recsys.errors import ConfigError, ConflictError, OutputError, RecsysError
from recsys.publishing.export.rows import KEYS, Rows

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Table

EXAMPLE = "postgresql+psycopg2://user@host/database"
TABLE_PATTERN = r"([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}"


class Database:
    """A database that is written to; nothing is opened until then.

    Attributes:
        name: the database without a password, for messages.
    """

    def __init__(self, url: str) -> None:
        """Take its URL.

        Raises:
            ConfigError: it is none, or what it needs is not installed.
        """
        try:
            from sqlalchemy import create_engine, make_url
            from sqlalchemy.exc import ArgumentError, NoSuchModuleError
            from sqlalchemy.pool import NullPool
        except ImportError as error:
            raise ConfigError(_missing(error)) from error
        place, _, query = url.partition("?")
        if place.count("@") > 1 or "@" in query:
            # What follows the first one would be taken for the host, and shown.
            raise ConfigError(
                "--to: found several @, or one behind the ?, expected one before the host; in a "
                "password write @ as %40, / as %2F and : as %3A"
            )
        try:
            self._url: URL = make_url(url)
            self.name = str(redact(self._url.set(password=None, query={}).render_as_string()))
            # Values would show who gets what.
            self._engine: Engine = create_engine(
                self._url, poolclass=NullPool, hide_parameters=True
            )
        except ImportError as error:
            raise ConfigError(_missing(error)) from error
        except (ArgumentError, NoSuchModuleError, ValueError, TypeError):
            # What is wrong in it may be a part of the password.
            raise ConfigError(
                f"--to: found no URL that SQLAlchemy takes, expected one such as {EXAMPLE}"
            ) from None

    def write(self, rows: Rows, table: str, *, overwrite: bool) -> int:
        """Write the rows of a version, instead of those of its cohort and day, in one transaction.

        The table is created if it is missing. Other cohorts and days in it stay.

        Args:
            rows: what to write.
            table: its name, perhaps with a schema and a dot before it.
            overwrite: whether rows of this cohort and day may be there.

        Returns:
            How many rows were there and are replaced.

        Raises:
            ConfigError: no name of a table.
            OutputError: rows are there already, the table has other columns, or the database fails.
            ConflictError: another export of the same was quicker.
        """
        if not re.fullmatch(TABLE_PATTERN, table):
            raise ConfigError(
                f"--table: found {table[:80]!r}, expected the name of a table, or schema.table, of "
                "letters, digits and _"
            )
        with self._errors(table), self._engine.begin() as connection:
            there = self._table(connection, rows, table)
            return _replace(connection, there, rows, self._where(table), overwrite=overwrite)

    def _table(self, connection: "Connection", rows: Rows, name: str) -> "Table":
        """Create the table if it is missing, hold it, and check that it has the columns."""
        from sqlalchemy import Column, MetaData, Table, inspect, text

        schema, _, short = name.rpartition(".")
        keys = KEYS[rows.per]
        columns = [
            Column(field.name, _type(field.type), primary_key=field.name in keys)
            for field in rows.schema
        ]
        if missing := [key for key in keys if key not in rows.columns]:
            raise ConfigError(
                f"--columns: {', '.join(missing)} must be among them for a database, as a part of "
                "the primary key"
            )
        table = Table(short, MetaData(), *columns, schema=schema or None)
        table.create(connection, checkfirst=True)
        if connection.dialect.name == "postgresql":
            # One export at a time; readers go on.
            quoted = connection.dialect.identifier_preparer.format_table(table)
            connection.execute(text(f"LOCK TABLE {quoted} IN SHARE ROW EXCLUSIVE MODE"))
        found = {
            column["name"] for column in inspect(connection).get_columns(short, schema or None)
        }
        if lacking := [column.name for column in columns if column.name not in found]:
            raise OutputError(
                f"{self._where(name)} has no column {', '.join(lacking)}; add it, leave it out "
                "with --columns, or choose another --table"
            )
        return table

    @contextmanager
    def _errors(self, table: str) -> Iterator[None]:
        """Turn what a database says into one line without secrets."""
        from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

        try:
            yield
        except RecsysError:
            raise
        except IntegrityError as error:
            raise ConflictError(
                f"{self._where(table)}: {self._said(error.orig)}; if another export was quicker, "
                "run again"
            ) from None
        except (SQLAlchemyError, ValueError) as error:  # ValueError: text with a zero byte
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise OutputError(
                f"{self._where(table)}: {self._said(cause)}; nothing was written"
            ) from None

    def _where(self, table: str) -> str:
        return f"table {table} of {self.name}"

    def _said(self, error: object) -> str:
        said = " ".join(str(error).split())[:500]
        secrets = [self._url.password, *(v for k, v in self._url.query.items() if names_secret(k))]
        for secret in secrets:
            for text in (secret,) if isinstance(secret, str) else (secret or ()):
                said = said.replace(text, "(redacted)") if text else said
        return str(redact(said))


def _replace(
    connection: "Connection", table: "Table", rows: Rows, where: str, *, overwrite: bool
) -> int:
    from sqlalchemy import and_, delete, func, select

    unit = and_(*(table.c[name] == rows.same[name].as_py() for name in (RUN_DATE, COHORT)))
    count = connection.execute(select(func.count()).select_from(table).where(unit)).scalar_one()
    if count and not overwrite:
        shown = "" if RUN_ID not in table.c else _run_there(connection, table, unit)
        raise OutputError(
            f"{where} has {count:,} rows of cohort {rows.same[COHORT]} of {rows.same[RUN_DATE]} "
            f"already{shown}; say --overwrite to replace them"
        )
    if count:
        connection.execute(delete(table).where(unit))
    for batch in rows.batches():
        connection.execute(table.insert(), batch.to_pylist())
    return int(count)


def _run_there(connection: "Connection", table: "Table", unit: Any) -> str:
    from sqlalchemy import select

    found = connection.execute(select(table.c[RUN_ID]).where(unit).limit(1)).scalar()
    return f", of run {found}"


def _type(kind: pa.DataType) -> Any:
    """Return the column type for an Arrow type; arrays are JSON where a database has none."""
    import sqlalchemy as sa
    from sqlalchemy.dialects import postgresql

    if pa.types.is_list(kind):
        return sa.JSON().with_variant(postgresql.ARRAY(_type(kind.value_type)), "postgresql")
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=True)
    if pa.types.is_date(kind):
        return sa.Date()
    if pa.types.is_floating(kind):
        return sa.REAL()
    if pa.types.is_integer(kind):
        return sa.BigInteger() if kind.bit_width > 32 else sa.Integer()
    return sa.Text()


def _missing(error: ImportError) -> str:
    return (
        f"--format sql needs the module {error.name}, which is not installed; install this package "
        "with the extra export, pip install 'recsys-batch[export]', or the database's own driver"
    )
