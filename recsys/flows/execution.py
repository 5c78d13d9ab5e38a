"""What every command needs around its work: settings, session, record, errors and exit status."""

import datetime as dt
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from recsys.config.configuration import Config
from recsys.config.reading import load_config
from recsys.config.redaction import redact
from recsys.errors import (
    ConfigError,
    GateError,
    OutputError,
    RecsysError,
    Stopped,
    one_line,
    unexpected,
)
from recsys.flows.checks import Checks
from recsys.flows.manifest import Outcome, RunManifest, SparkSettings
from recsys.flows.monitoring.monitors import Monitors, lacking
from recsys.flows.record import RunRecord, continued, earlier_attempt
from recsys.flows.report.after_run import try_report
from recsys.ingest.settings import check_settings
from recsys.publishing.index import latest_published, open_index
from recsys.publishing.publish import held_gates
from recsys.publishing.versions import Version
from recsys.runtime import logs, session, signals
from recsys.runtime.run import Run, new_run, run_lock
from recsys.runtime.spark_errors import over_result_limit, spark_reason
from recsys.runtime.stop_points import stop_point
from recsys.store.tables import Scratch, Store

log = logging.getLogger("recsys")

# PySpark's own, for queries that were made by calls and for those that are text.
QUERY_LOGGERS = ("DataFrameQueryContextLogger", "SQLQueryContextLogger")


@dataclass(frozen=True)
class Job:
    """One run's surroundings, as its steps need them; `model_id` where it uses a trained model."""

    spark: SparkSession
    store: Store
    config: Config
    run: Run
    staging: str
    scratch: Scratch
    force: bool = False
    model_id: str | None = None


@dataclass(frozen=True)
class Command:
    """What a command does.

    Attributes:
        name: the job's, for the run's manifest.
        requires: yields what the configuration lacks for it.
        look: looks at everything that can be known before the work.
        work: does it.
        model_id: the model that it uses, or `latest`; None where it uses none.
        base_of: the option that named this model, where another model is made from it; the latest
            is then the latest that was trained. None where lists are made with it.
    """

    name: str
    requires: Callable[[Config], Iterable[str]]
    look: Callable[["Job", Checks], None]
    work: Callable[[Job], Outcome]
    model_id: str | None = None
    base_of: str | None = None


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    config: str | None
    overrides: Sequence[str]
    run_date: dt.date | None
    run_id: str | None
    debug: bool
    force: bool = False
    log_format: logs.Form = "text"
    as_json: bool = False


# What is done with a command in a session: it is run, or looked at. It returns the exit status.
Act = Callable[[Command, SparkSession, Config, Run, Options], int]


def execute(command: Command, options: Options, act: Act | None = None) -> int:
    """Run a command and return its exit status (see `recsys.errors`).

    The caller has called `signals.listen`.

    Args:
        command: what to do.
        options: what the command line says.
        act: what to do with the command instead of running it with a record.
    """
    logs.log_to_stderr(logging.DEBUG if options.debug else logging.INFO, options.log_format)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    if not options.debug:
        # They print the whole stack of every failed query; the user is to see one line.
        for name in QUERY_LOGGERS:
            PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)
        for handler in logging.getLogger().handlers:
            handler.addFilter(_is_not_py4j)
    return signals.supervised(lambda: _execute(command, options, act or _run), session.cancel_jobs)


def _is_not_py4j(record: logging.LogRecord) -> bool:
    """Leave out what py4j tells the root logger: the stack of each call to a JVM that is gone."""
    return "py4j" not in Path(record.pathname).parts


def _run(command: Command, spark: SparkSession, config: Config, run: Run, options: Options) -> int:
    dated = options.run_date is not None
    more = {"force": options.force, "as_json": options.as_json}
    run_recorded(command, spark, config, run, dated=dated, **more)
    return 0


def _execute(command: Command, options: Options, act: Act) -> int:
    try:
        signals.check_stop()
        config = load_config(options.config, options.overrides)
        check_configuration(command, config)
        run = new_run(options.run_id, options.run_date)
        logs.name_run(run.run_id)
        spark = session.start(config.spark, quiet=not options.debug)
        try:
            status = act(command, spark, config, run, options)
        finally:
            with suppress(Py4JError, OSError):  # the JVM may be gone, which was said already
                spark.stop()
    except (Exception, Stopped, KeyboardInterrupt) as error:
        return _report(signals.settle() or error, options)
    return status


def check_configuration(command: Command, config: Config) -> None:
    """Refuse a configuration that lacks what a command or a monitor needs, before Spark starts.

    Raises:
        ConfigError: it does; the message says everything.
    """
    if found := [*command.requires(config), *lacking(config)]:
        raise ConfigError("; ".join(found))


def run_recorded(
    command: Command,
    spark: SparkSession,
    config: Config,
    run: Run,
    *,
    force: bool = False,
    dated: bool = True,
    as_json: bool = False,
) -> RunManifest:
    """Run a command with a record of the run, and return that record.

    A run that is complete already is not run again.

    Args:
        command: what to do.
        spark: the session.
        config: the configuration.
        run: this attempt; what an earlier one has recorded is taken up.
        force: publish although a gate failed.
        dated: whether the run date was asked for.
        as_json: print what came of it as JSON.

    Raises:
        ConfigError: the run id cannot be used for this.
        ConflictError: the same run goes on in another process.
    """
    store = Store(spark, config.root)
    # `recsys runs` may be looking at this moment whether anyone holds it.
    with store.files.lock(run_lock(run.run_id), wait=2):
        earlier = earlier_attempt(store.files, run.run_id)
        run = continued(run, earlier, dated=dated)
        record = RunRecord(
            store.files,
            command.name,
            run,
            config,
            model_id=command.model_id,
            base_of=None if command.model_id is None else command.base_of,
            spark=SparkSettings(**session.describe(spark, config.spark)),
            earlier=earlier,
        )
        signals.check_stop()
        if (finished := record.finished_before()) is not None:
            log.info("run %s is complete already: nothing to do", run.run_id)
            _print_result(finished, as_json=as_json)
            return finished
        log.info("%s %s for %s, into %s", command.name, run.run_id, run.run_date, store.root)
        monitors = Monitors(config, store.root, partial(_published, store, config))
        monitors.began(record.begin())
        stop_point("begun")
        try:
            with store.staging(run.run_id) as staging:
                model_id, scratch = record.choose_model(), Scratch(store, f"{staging}/scratch")
                job = Job(spark, store, config, run, staging, scratch, force, model_id)
                outcome = _looked_at_and_done(command, job)
            if (stopped := signals.settle()) is not None:  # what comes later is too late
                raise stopped
            complete = record.complete(outcome)
        except (Exception, Stopped, KeyboardInterrupt) as raised:
            error = _cause(raised, store)
            gates = held_gates(store.files, run.run_id) if isinstance(error, GateError) else None
            if failed := record.fail(_one_line(error), _exit_code(error), gates):
                monitors.ended(failed)
            if failed is not None and isinstance(error, Exception):  # a stop waits for no page
                _report_on(store, failed, config, as_json=as_json)
            if error is raised:
                raise
            raise error from raised
        stop_point("recorded")
        monitors.ended(complete)
        _print_result(complete, as_json=as_json)
        _report_on(store, complete, config, as_json=as_json)
        log.info("run %s is complete", run.run_id, extra={"exit_status": 0})
        return complete


def _looked_at_and_done(command: Command, job: Job) -> Outcome:
    with job.run.step("preflight"):
        look(command, job).raise_all()
    return command.work(job)


def _published(store: Store, config: Config, cohort: str) -> Version | None:
    return latest_published(open_index(store.files, config.publishing, store.ensure_alive), cohort)


def look(command: Command, job: Job) -> Checks:
    """Look at everything that can be known before the work, and return what was found."""
    found = Checks()
    with found.looking("spark"):
        check_settings(job.spark, job.config.spark)
    command.look(job, found)
    for check in found.made:
        if check.state == "warning":
            log.warning("%s", check)
    return found


def _cause(error: BaseException, store: Store) -> BaseException:
    """Return what is behind an error: a stop cancels calls, and so does a JVM that is gone."""
    if (stopped := signals.settle()) is not None:
        return stopped
    if (limit := over_result_limit(error)) is not None:
        return limit
    if isinstance(error, RecsysError | Stopped | KeyboardInterrupt):
        return error
    try:
        store.ensure_alive()
    except OutputError as gone:
        return gone
    return store.meaning(error) or error


def _report_on(store: Store, ended: RunManifest, config: Config, *, as_json: bool) -> None:
    """Write the page about a run that has ended; nothing that happens here changes how it ended."""
    if config.report.write and (place := try_report(store.files, ended, config.report.users)):
        if as_json:
            log.info("report %s", place)
        else:
            print(f"{'report':16} {place}")


def _print_result(manifest: RunManifest, *, as_json: bool) -> None:
    if as_json:
        told = {"run_id", "job", "run_date", *Outcome.model_fields} - {"report"}
        plain = manifest.model_dump(mode="json", include=told, exclude_none=True)
        for place in plain["outputs"].values():
            place.pop("files", None)  # the record has them, with their checksums
        print(json.dumps(plain, indent=2))
        return
    for table, place in manifest.outputs.items():
        print(f"{table:16} {place.uri}  {place.rows:,} rows")
    for line in manifest.report or ():
        print(line)
    if manifest.forced:
        for verdict in manifest.gates or ():
            if verdict.state == "failed":
                print(f"gate failed: {one_line(str(verdict))}")
        print("published all the same, because of --force")


def _one_line(error: BaseException) -> str:
    if isinstance(error, Py4JError | PySparkException):
        return one_line(spark_reason(error))
    if isinstance(error, RecsysError | Stopped):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return str(redact(unexpected(error)))  # clients name addresses, with their passwords


def _exit_code(error: BaseException) -> int:
    return 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)


def _report(error: BaseException, options: Options) -> int:
    message, exit_code = _one_line(error), _exit_code(error)
    if options.debug:
        log.exception("the traceback, as --debug asks")
    if exit_code == 1:
        message = f"unexpected: {message} (run with --debug for the traceback)"
    if logs.as_json():
        kind = type(error).__name__
        fields = {"error": message, "error_kind": kind, "exit_status": exit_code}
        log.error("recsys: error: %s", message, extra=fields)
        return exit_code
    with suppress(OSError):  # spark-submit was killed, and nobody listens
        print(f"recsys: error: {message}", file=sys.stderr, flush=True)
    return exit_code
