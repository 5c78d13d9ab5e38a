"""Where trials of `recsys tune` are kept: a study in a SQLite file or in PostgreSQL, by Optuna.

A study belongs to one input, one configuration and one set of ranges: trials of another could not
be compared with its own. What it belongs to is stored with it, and `agree` refuses what differs.

One process at a time works on a study. It holds a lock that ends with the process, however it ends.
So a trial that is still running when a process opens the study is one whose process was killed.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.config.redaction import redact
from recsys.errors import ConfigError, ConflictError, OutputError, RecsysError

if TYPE_CHECKING:
    from optuna import Study
    from sqlalchemy import URL, Engine

EXAMPLE = "sqlite:///tune.db or postgresql+psycopg2://user@host/database"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"
_ABOUT = "recsys"  # the attribute of a study that says what it belongs to
_INSTALL = "install this package with the extra tune: pip install 'recsys-batch[tune]'"


def check_installed() -> None:
    """Refuse to tune where Optuna is missing.

    Raises:
        ConfigError: it is; the message says what to install.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            f"tuning needs Optuna, but the module {error.name} is not installed; {_INSTALL}"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in ("alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)


def shown(storage: str) -> str:
    """Return the URI of a storage without its password."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return str(redact(make_url(storage).set(password=None).render_as_string()))
    except ArgumentError:
        return str(redact(storage))


def check(storage: str, name: str, about: Mapping[str, Any]) -> None:
    """See whether a study can be used, before anything else is done.

    Args:
        storage: URI of a SQLite file or a PostgreSQL database.
        name: of the study.
        about: what is known by now of what the trials belong to.

    Raises:
        ConfigError: Optuna is missing, the URI cannot be used, or the study is of something else.
        OutputError: the storage cannot be reached.
    """
    check_installed()
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(
            f"--study: found {name[:80]!r}, expected a name of letters, digits, _, . and -, of at "
            "most 128 characters"
        )
    import optuna

    with _errors(storage), _engine_of(storage) as kept:
        names = optuna.get_all_study_names(kept)
        if name in names:
            _compare(optuna.load_study(storage=kept, study_name=name), about, storage)


def in_memory() -> "Study":
    """Return a study that ends with the process."""
    check_installed()
    import optuna

    return optuna.create_study(direction="maximize")


@contextlib.contextmanager
def opened(storage: str, name: str) -> Iterator["Study"]:
    """Open a study, or begin it, and hold it as the only process.

    Trials that a killed process has left are marked as failed.

    Args:
        storage: URI of a SQLite file or a PostgreSQL database.
        name: of the study.

    Raises:
        ConfigError: as `check`.
        ConflictError: another process works on it.
        OutputError: the storage cannot be reached, or fails later.
    """
    check_installed()
    import optuna
    from optuna.trial import TrialState

    with _errors(storage), _engine_of(storage) as kept, _held(kept.engine, name, storage):
        study = optuna.create_study(
            storage=kept, study_name=name, direction="maximize", load_if_exists=True
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
        yield study


def agree(study: "Study", about: Mapping[str, Any], storage: str) -> None:
    """Refuse a study of something else; a new one is from now on of this.

    Args:
        study: the study, which this process holds.
        about: all of what the trials belong to, in plain JSON values.
        storage: URI, for the message.

    Raises:
        ConfigError: it is of something else; the message says what differs.
    """
    if _ABOUT not in study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(_ABOUT, dict(about))
    _compare(study, about, storage)


def _compare(study: "Study", about: Mapping[str, Any], storage: str) -> None:
    found = study.user_attrs.get(_ABOUT)
    which = f"--study: the study {study.study_name} in {shown(storage)}"
    if found is None:
        if study.get_trials(deepcopy=False):
            raise ConfigError(
                f"{which} was not made by recsys tune; choose another --study or --storage"
            )
        return
    differences = [
        f"{key} ({_short(old)} there, {_short(new)} now)"
        for part in about
        for key, old, new in _different(part, found.get(part), about[part])
    ]
    if differences:
        raise ConfigError(
            f"{which} is of another input or other settings, so that its trials cannot be compared "
            f"with new ones: {', '.join(differences[:5])}; go on with what it was made with, or "
            "choose another --study or --storage"
        )


def _different(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the values that differ, with their keys."""
    old = {} if old is None and isinstance(new, dict) else old
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _different(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield key, old, new


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}..."


@contextlib.contextmanager
def _engine_of(storage: str) -> Iterator[Any]:
    """Give Optuna's storage, and close its connections in the end."""
    from optuna.storages import RDBStorage

    url = _url(storage)
    # Somebody may be looking at the file, or the server may have closed a connection meanwhile.
    options: dict[str, Any] = {"connect_args": {"timeout": 60}}
    if url.drivername != "sqlite":
        options = {"pool_pre_ping": True}
    kept = RDBStorage(url.render_as_string(hide_password=False), engine_kwargs=options)
    try:
        yield kept
    finally:
        kept.remove_session()
        kept.engine.dispose()


def _url(storage: str) -> "URL":
    """Return a storage's URI, in a form that names the driver."""
    from sqlalchemy import make_url

    url = make_url(storage)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg2")  # SQLAlchemy's own default has changed
    is_file = url.drivername == "sqlite" and url.database not in (None, "", ":memory:")
    if not (is_file or url.drivername.startswith("postgresql+")):
        raise ConfigError(f"--storage: found {shown(storage)}, expected {EXAMPLE}")
    return url


@contextlib.contextmanager
def _held(engine: "Engine", name: str, storage: str) -> Iterator[None]:
    """Hold a study as long as this lasts; the lock ends with the process, too."""
    taken = ConflictError(
        f"another process tunes in {shown(storage)}; wait for it, or choose another --storage"
    )
    if engine.url.drivername == "sqlite":
        path = Path(f"{engine.url.database}.lock")
        with path.open("w", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise taken from None
            file.write(f"process {os.getpid()}\n")
            file.flush()
            yield
        return
    from sqlalchemy import text

    key = int.from_bytes(hashlib.sha256(f"recsys tune {name}".encode()).digest()[:8], signed=True)
    # Of the session, not of a transaction: one that lasts for hours would keep vacuum from working.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": key}):
            raise taken
        yield


@contextlib.contextmanager
def _errors(storage: str) -> Iterator[None]:
    """Turn what Optuna and SQLAlchemy raise into one line without secrets."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        yield
    except RecsysError:
        raise
    except (ModuleNotFoundError, ImportError) as error:
        raise ConfigError(
            f"--storage: {shown(storage)} needs a driver that is not installed: "
            f"{_line(error, storage)}; {_INSTALL}"
        ) from None
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"--storage: {_line(error, storage)}; expected {EXAMPLE}") from None
    except (OptunaError, SQLAlchemyError, OSError) as error:
        raise OutputError(
            f"the storage of trials, {shown(storage)}, failed: {_line(error, storage)}; see "
            "whether it can be reached and written, and run again to go on"
        ) from None


def _line(error: BaseException, storage: str) -> str:
    cause = error.__cause__ or error  # Optuna wraps SQLAlchemy's errors, which say more
    lines = str(cause).splitlines() or [type(cause).__name__]
    return str(redact(lines[0].replace(storage, shown(storage))))
