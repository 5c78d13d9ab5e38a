"""Opening the catalog of Iceberg tables, and the tables' columns."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchPropertyException,
    NoSuchTableError,
    NotInstalledError,
    RESTError,
    TableAlreadyExistsError,
    ValidationError,
    ValidationException,
)
from pyiceberg.io.pyarrow import _pyarrow_to_schema_without_ids
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import Table, TableProperties, Transaction
from pyiceberg.transforms import IdentityTransform
from pyiceberg.utils.config import Config
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from recsys.columns import COHORT, RUN_DATE, RUN_ID
from recsys.config.redaction import names_secret, redact
from recsys.config.sections import Iceberg
from recsys.errors import ConfigError, DamageError, OutputError, RecsysError
from recsys.publishing.versions import schema_changes
from recsys.store.files import Files, local_path

# The columns of a table whose first version has no file: others are added with the first that has.
LEAST = pa.schema([(RUN_DATE, pa.date32()), (COHORT, pa.string()), (RUN_ID, pa.string())])


EXAMPLE = "postgresql+psycopg2://user@host/database"


class IcebergCatalog:
    """pyiceberg's catalog, opened when it is first needed."""

    def __init__(self, files: Files, settings: Iceberg) -> None:
        self._files = files
        self._settings = settings
        self._opened: Catalog | None = None
        self._given: dict[str, str] = {}

    @property
    def properties(self) -> dict[str, str]:
        """The properties of the opened catalog."""
        return dict(self._open().properties)

    def load(self, name: str) -> Table | None:
        """Load a table with its newest metadata; None where there is none."""
        try:
            return self._open().load_table((self._settings.namespace, name))
        except (NoSuchTableError, NoSuchNamespaceError):
            return None

    def create(self, name: str, schema: pa.Schema | None) -> Table:
        """Load a table, or create it with the columns of a Parquet file."""
        table = self.load(name)
        if table is not None:
            return table
        with self._files.lock("iceberg-maintenance", wait=60):
            with suppress(NamespaceAlreadyExistsError):  # a publisher elsewhere
                self._open().create_namespace_if_not_exists(self._settings.namespace)
            columns = assign_fresh_schema_ids(_converted(LEAST if schema is None else schema))
            try:
                return self._open().create_table(
                    (self._settings.namespace, name),
                    schema=columns,
                    partition_spec=PartitionSpec(
                        *(
                            PartitionField(
                                source_id=columns.find_field(column).field_id,
                                field_id=1000 + place,
                                transform=IdentityTransform(),
                                name=column,
                            )
                            for place, column in enumerate([RUN_DATE, COHORT])
                        )
                    ),
                    properties={
                        TableProperties.FORMAT_VERSION: "2",
                        # Spark's files have names alone; readers find the columns' ids here.
                        TableProperties.DEFAULT_NAME_MAPPING: (
                            columns.name_mapping.model_dump_json()
                        ),
                        # A retry must look at what the rival did: it is this project's own.
                        TableProperties.COMMIT_NUM_RETRIES: "0",
                    },
                )
            except TableAlreadyExistsError:
                return self._open().load_table((self._settings.namespace, name))

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def hide(self, text: str) -> str:
        """Return a message without the properties that may hold secrets."""
        for key, value in self._given.items():
            if value and (key == "uri" or names_secret(key)):
                text = text.replace(value, f"({key})")
        return str(redact(text))

    def _open(self) -> Catalog:
        if self._opened is None:
            self._given = self._all_properties()
            for attempt in range(3):
                try:
                    self._opened = load_catalog(self._settings.catalog, **self._given)
                    break
                except (ArgumentError, NoSuchModuleError):
                    raise
                except ValueError as error:
                    raise ConfigError(
                        f"publishing.iceberg.properties: {_line(self, error)}; expected a uri such "
                        f"as {EXAMPLE}"
                    ) from None
                except SQLAlchemyError:
                    # Another process may be creating the catalog's own tables at this moment.
                    if attempt == 2:
                        raise
                    time.sleep(0.2)
        assert self._opened is not None  # noqa: S101 - the loop ends with it or raises
        return self._opened

    def identity(self) -> dict[str, str]:
        """Return what tells this catalog from others of the same root; no secrets."""
        uri = self._all_properties().get("uri", "")
        with suppress(ArgumentError):  # not a URL of SQLAlchemy's
            uri = make_url(uri).set(password=None).render_as_string()
        root = local_path(self._files.root)
        if root is not None and uri.startswith("sqlite"):  # a root may be moved
            uri = uri.replace(str(root), "(root)")
        return {
            "format": "iceberg",
            "catalog": self._settings.catalog,
            "namespace": self._settings.namespace,
            "uri": redact(uri),
        }

    def _all_properties(self) -> dict[str, str]:
        """Return pyiceberg's own configuration, under that of the settings, over the defaults."""
        configured = Config().get_catalog_config(self._settings.catalog) or {}
        properties = {key: str(value) for key, value in configured.items()}
        for key, value in self._settings.properties.items():
            properties[key] = str(value).lower() if isinstance(value, bool) else str(value)
        if not {"uri", "type", "py-catalog-impl"} & set(properties):
            root = local_path(self._files.root)
            if root is None:
                raise ConfigError(
                    "publishing.iceberg.properties: a root that is not local needs the uri of a "
                    f"catalog, such as {EXAMPLE}"
                )
            root.mkdir(parents=True, exist_ok=True)
            url = URL.create("sqlite", database=str(root / "catalog.db"))
            properties["uri"] = url.render_as_string(hide_password=False)
        if properties.get("uri", "").startswith(("sqlite", "postgresql")):
            properties.setdefault("warehouse", _with_slashes(self._files.uri("iceberg")))
            properties.setdefault("pool_pre_ping", "true")
        return properties


@contextmanager
def errors(catalog: IcebergCatalog) -> Iterator[None]:
    """Turn what pyiceberg and SQLAlchemy raise into one line without secrets.

    CommitFailedException passes: a rival came first, and the commit is to be tried again.

    Raises:
        ConfigError: the catalog cannot be used as configured.
        OutputError: it cannot be reached, or refused something.
        DamageError: a file is missing.
    """
    try:
        yield
    except (RecsysError, CommitFailedException):
        raise
    except FileNotFoundError as error:
        raise DamageError(
            f"a file of an Iceberg table is missing: {_line(catalog, error)}"
        ) from error
    except (NotInstalledError, ModuleNotFoundError, NoSuchModuleError) as error:
        raise ConfigError(
            f"the Iceberg catalog needs a module that is not installed: "
            f"{_line(catalog, error)}; install what it names"
        ) from None
    except (ArgumentError, NoSuchPropertyException) as error:
        raise ConfigError(
            f"publishing.iceberg.properties: {_line(catalog, error)}; expected a uri such as "
            f"{EXAMPLE}"
        ) from None
    except (
        SQLAlchemyError,
        RESTError,
        ValidationError,
        ValidationException,
        ValueError,
        OSError,
    ) as error:
        raise OutputError(
            f"the Iceberg catalog failed: {_line(catalog, error)}; see "
            "publishing.iceberg.properties and whether its server runs"
        ) from None


def evolve(transaction: Transaction, schema: pa.Schema, is_return: bool) -> None:
    """Add the columns that a table has not yet.

    Args:
        transaction: of the table.
        schema: of the files that are to be added.
        is_return: whether they were published before: later columns are missing then.

    Raises:
        OutputError: a column of the table is missing in the files, or of another type.
    """
    old = _types(transaction.table_metadata.schema())
    new = _types(_converted(schema))
    if is_return:
        old = {name: kind for name, kind in old.items() if name in new}
    changed = schema_changes(old, new)
    if changed:
        raise OutputError(
            f"the published table's columns do not fit: {'; '.join(changed)}; publish to another "
            "publishing.iceberg.namespace, or keep the columns"
        )
    if set(new) - set(old):
        with transaction.update_schema() as update:
            update.union_by_name(schema)


def _converted(schema: pa.Schema) -> Schema:
    return _pyarrow_to_schema_without_ids(schema)


def _types(schema: Schema) -> dict[str, str]:
    return {field.name: str(field.field_type) for field in schema.fields}


def _with_slashes(uri: str) -> str:
    path = local_path(uri)
    return uri if path is None else f"file://{path}"


def _line(catalog: IcebergCatalog, error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return catalog.hide(lines[0])
