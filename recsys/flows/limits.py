"""The sizes of a run against the limits of memory, Spark and the disk, before it begins.

How many pairs there will be is known after preparing. Until then the newest run of the root that
prepared the same input says so, and without one the files of the input say how many there are at
most. By such an estimate no run is refused: the input may have shrunk,
and a refused run would never make a newer estimate. The exact numbers are checked again when they
are known (`recsys.learn.sizes`, `recsys.flows.space`).
"""

import logging
from dataclasses import dataclass

from recsys.config.sections import EarlyStopping, Training
from recsys.errors import MemoryLimitError
from recsys.flows.checks import Check, Checks, State
from recsys.flows.earlier import newest_run
from recsys.flows.execution import Job
from recsys.flows.manifest import RunManifest
from recsys.ingest.input_size import input_rows
from recsys.kernel.nominate import bytes_of
from recsys.learn.negatives import drawn_per_positive
from recsys.learn.sizes import MAX_PAIRS, Sizes, driver_bytes
from recsys.learn.user_sample import possible
from recsys.model.manifest import ModelManifest
from recsys.runtime import memory
from recsys.runtime.sizes import size

log = logging.getLogger(__name__)

_LATER = "known after preparing"
_ARROW_MOST = 2**31 - 1  # the offsets of its lists are int32
_COLLECTED = MemoryLimitError.exit_code
_RECORDS = "spark.sql.execution.arrow.maxRecordsPerBatch"


def training(job: Job, found: Checks, settings: Training) -> None:
    """Compare what training takes on the driver with what there is.

    Args:
        job: the run.
        found: takes the checks.
        settings: of the training: those of the configuration, or what the command makes of them.
    """
    run = newest_run(job.store.files, config=job.config)
    sizes = None if run is None else _sizes(run)
    rows = _rows(job) if sizes is None else None
    plan = None if sizes is None or run is None else _planned(job, settings, sizes, run)
    _driver(job, found, settings, plan, run, rows)
    _result(job, found, settings, plan)
    _space(job, found, run)


def scoring(job: Job, found: Checks, model: ModelManifest | None) -> None:
    """Compare what scoring takes on executors with what there is.

    Args:
        job: the run.
        found: takes the checks.
        model: the manifest of the model; None where it is not trained yet.
    """
    run = newest_run(job.store.files, config=job.config) if model is None else None
    n_items = n_users = n_pairs = None
    width = job.config.training.widest
    if model is not None:
        n_items, width = model.n_items, model.no_components
        n_users, n_pairs = model.counts.users, model.counts.pairs
    elif run is not None and (sizes := _sizes(run)) is not None:
        n_items, n_users, n_pairs = sizes.items, sizes.users, sizes.pairs
    _broadcast(job, found, n_items, width, exact=model is not None)
    mean = None if n_users is None or n_pairs is None else n_pairs / max(1, n_users)
    _batches(job, found, width, mean)


def _rows(job: Job) -> int | None:
    """Return about how many rows the input has; None where that is not known."""
    try:
        return input_rows(job.config.input)
    except Exception as error:  # an estimate, which must not end a run
        log.debug("the rows of the input cannot be estimated", exc_info=error)
        return None


def _sizes(run: RunManifest) -> Sizes | None:
    counts = run.counts
    if counts is None:
        return None
    # Ids are text of some 16 bytes, or numbers that take less.
    users, items = counts.users_in_training, counts.items_in_training
    pairs = counts.positive_pairs + counts.negative_pairs
    return Sizes(pairs, counts.negative_pairs, users, items, users * 16, items * 16)


@dataclass(frozen=True)
class _Planned:
    """About how much a run will collect.

    Attributes:
        everyone: what all users have.
        taken: what those have who are trained on.
        share: of the users; None where all are trained on.
    """

    everyone: Sizes
    taken: Sizes
    share: float | None


def _planned(job: Job, settings: Training, everyone: Sizes, run: RunManifest) -> _Planned:
    """Choose a share of the users as the run will, by the same limits."""
    wanted = settings.sample_users
    shares = list(dict.fromkeys(share for share, _ in possible(wanted)))
    if not shares or (wanted == "auto" and _fits(job, settings, everyone)):
        return _Planned(everyone, everyone, None)
    n_judged = (settings.early_stopping or EarlyStopping()).max_users
    samples = {share: _sample(everyone, share, run, n_judged) for share in shares}
    fitting = (share for share, sample in samples.items() if _fits(job, settings, sample))
    share = next(fitting, shares[-1])
    return _Planned(everyone, samples[share], share)


def _fits(job: Job, settings: Training, sizes: Sizes) -> bool:
    limit, _ = memory.result_limit(job.spark)
    return (
        sum(_parts(settings, sizes).values()) <= _allowed(job)
        and (not limit or _results(sizes) <= limit)
        and sizes.pairs + _drawn(settings, sizes) <= MAX_PAIRS
    )


def _allowed(job: Job) -> int:
    return memory.allowed_bytes(memory.heap_bytes(job.spark), job.config.memory.max_share)


def _results(sizes: Sizes) -> int:
    """Return the bytes of the largest result that is collected; pairs come in parts."""
    return max(sizes.user_bytes, sizes.item_bytes)


def _drawn(settings: Training, sizes: Sizes) -> int:
    return sizes.pairs * drawn_per_positive(settings, sizes.negatives)


def _driver(
    job: Job,
    found: Checks,
    settings: Training,
    plan: _Planned | None,
    run: RunManifest | None,
    rows: int | None,
) -> None:
    heap, allowed = memory.heap_bytes(job.spark), _allowed(job)
    limit = (
        f"{size(allowed)}: memory.max_share {job.config.memory.max_share} of "
        f"{size(memory.limit_bytes())} less the JVM's heap {size(heap)}"
    )
    if plan is None or run is None:
        of_input = "" if rows is None else f"the input has about {rows:,} rows; more is "
        found.add(Check("driver memory", of_input + _LATER, limit, "unknown"))
        return
    parts = _parts(settings, plan.everyone)
    needed = sum(parts.values())
    told = ", ".join(f"{name} {size(count)}" for name, count in parts.items() if count)
    about = f"about {size(needed)} by run {run.run_id}: {told}"
    change = (
        "take a larger machine, lower spark.driver.memory, training.no_components or "
        "training.second_view_rank, or raise the minimum numbers of interactions in filters"
    )
    if plan.share is not None:
        needed = sum(_parts(settings, plan.taken).values())
        share = _told(plan.share, run)
        about += f"; training.sample_users {settings.sample_users}: {share}, about {size(needed)}"
    fits = needed <= allowed
    if plan.taken.pairs + _drawn(settings, plan.taken) > MAX_PAIRS:
        about += f"; more pairs than the {MAX_PAIRS:,} that LightFM can train on"
        fits = False
    found.add(_estimated("driver memory", about, limit, change, fits=fits))


def _parts(settings: Training, sizes: Sizes) -> dict[str, int]:
    return driver_bytes(sizes, settings.widest, _drawn(settings, sizes))


def _sample(everyone: Sizes, share: float, run: RunManifest, n_judged: int) -> Sizes:
    """Return about how much a sample of the users has, with those whom rare items add.

    How many those are is known of the earlier run's own sample; without one they do not count. The
    pairs of users who are left out and judged count, although only a run and `train` judge them.
    """
    users, pairs, before = share * everyone.users, share * everyone.pairs, run.sample
    if before is not None:
        users += before.added_users
        pairs += max(0, before.pairs - before.share * before.of_pairs)
    pairs = min(pairs, everyone.pairs)
    negatives = everyone.negatives * pairs / max(1, everyone.pairs)
    n = min(users, everyone.users)
    user_bytes = int(everyone.user_bytes * n / max(1, everyone.users))
    items = everyone.items, user_bytes, everyone.item_bytes
    # They have as many pairs each as all users have.
    judged = min(n_judged, everyone.users - n) * everyone.pairs / max(1, everyone.users)
    return Sizes(int(pairs), int(negatives), int(n), *items, judged_pairs=int(judged))


def _told(share: float, run: RunManifest) -> str:
    if run.sample is None:
        return f"about {share:g} of the users, or fewer where rare items add some"
    return f"about {share:g} of the users, and {run.sample.added_users:,} for rare items"


def _result(job: Job, found: Checks, settings: Training, plan: _Planned | None) -> None:
    limit, text = memory.result_limit(job.spark)
    name, shown = "spark.driver.maxResultSize", text if limit else "none"
    if plan is None:
        found.add(Check(name, _LATER, shown, "unknown"))
        return
    needed, of_all = _results(plan.taken), _results(plan.everyone)
    about = f"about {size(needed)} of ids to collect at once"
    if settings.sample_users == "auto" and 0 < limit < of_all:
        about += (
            f"; training.sample_users auto: some of the users, since the ids of all of them are "
            f"about {size(of_all)}"
        )
    change = f"raise {name}, or raise the minimum numbers of interactions in filters"
    found.add(_estimated(name, about, shown, change, fits=not limit or needed <= limit))


def _space(job: Job, found: Checks, run: RunManifest | None) -> None:
    free = job.store.files.free_bytes()
    limit = "not known of this store" if free is None else f"{size(free)} free"
    if run is None:
        found.add(Check("space at the root", _LATER, limit, "unknown"))
        return
    listed = [file.bytes for table in run.outputs.values() for file in table.files or ()]
    rows = sum(table.rows for table in run.outputs.values() if table.files is None)
    # Interactions and models are listed in records of their own; a row of theirs has at least this.
    needed = sum(listed) + rows * 8
    change = "free space there (recsys clean shows what nothing needs), or choose another root"
    about = f"at least {size(needed)} by run {run.run_id}"
    fits = free is None or needed <= free
    found.add(_estimated("space at the root", about, limit, change, fits=fits, status=8))


def _broadcast(job: Job, found: Checks, n_items: int | None, width: int, *, exact: bool) -> None:
    """Compare the items, as each Python worker has them, with a worker's share of the memory."""
    allowed, limit, certain = _worker_bytes(job)
    if n_items is None:
        found.add(Check("broadcast of items", _LATER, limit, "unknown"))
        return
    matrix = n_items * (width + 1) * 4
    # The fold-in map's arrays of a second view are as wide as the second view at most.
    second = n_items * max(0, width - job.config.training.no_components) * 4
    needed = matrix + second + n_items * 16 + bytes_of(n_items, width)
    about = (
        f"about {size(needed)} in each Python worker: {n_items:,} items x {width + 1:,}, "
        f"second view {size(second)}, kernel {size(bytes_of(n_items, width))}"
    )
    change = (
        "lower training.no_components or training.second_view_rank, let fewer workers run at once "
        "(spark.master local[N], spark.executor.cores), or give executors more memory "
        "(spark.executor.pyspark.memory, spark.executor.memoryOverhead)"
    )
    fits = needed <= allowed
    if not fits and exact and certain:
        check = Check("broadcast of items", about, limit, "refused", change, _COLLECTED)
        found.add(check, MemoryLimitError(str(check)))
        return
    found.add(_estimated("broadcast of items", about, limit, change, fits=fits))


def _worker_bytes(job: Job) -> tuple[int, str, bool]:
    """Return what a Python worker may take, how that is said, and whether it is certain."""
    context = job.spark.sparkContext
    conf = context.getConf()
    of_python = conf.get("spark.executor.pyspark.memory")
    cores = int(conf.get("spark.executor.cores", "1") or 1)
    parse = context._jvm.org.apache.spark.network.util.JavaUtils.byteStringAsBytes  # type: ignore
    if of_python:
        share = int(parse(of_python)) // cores
        return share, f"{size(share)}: spark.executor.pyspark.memory by {cores} cores", True
    if (context.master or "").startswith("local"):
        workers = context.defaultParallelism
        allowed = memory.allowed_bytes(memory.heap_bytes(job.spark), job.config.memory.max_share)
        return allowed // workers, f"{size(allowed // workers)} for each of {workers}", True
    heap = int(parse(conf.get("spark.executor.memory", "1g") or "1g"))
    told = conf.get("spark.executor.memoryOverhead")
    overhead = int(parse(told)) if told else max(384 * 2**20, heap // 10)
    share = overhead // cores
    return share, f"{size(share)}: spark.executor.memoryOverhead by {cores} cores", False


def _batches(job: Job, found: Checks, width: int, mean: float | None) -> None:
    """Compare the longest Arrow batch of users with what Arrow can hold."""
    told = int(job.spark.conf.get(_RECORDS, "10000") or 10000)
    # Without a limit a batch is a whole part.
    rows = told if told > 0 else job.config.scoring.users_per_file
    name, limit = "Arrow batches", size(_ARROW_MOST)
    if mean is None:
        found.add(Check(name, f"{rows:,} users in a batch; their size is {_LATER}", limit))
        return
    # The vector, the bias, and int32 items that were seen and liked with their weights.
    per_user = (width + 1) * 4 + mean * 12
    about = f"{rows:,} users of about {size(per_user)}: {size(int(rows * per_user))}"
    fits = rows * per_user <= _ARROW_MOST
    found.add(_estimated(name, about, limit, f"lower {_RECORDS}", fits=fits))


def _estimated(
    name: str, found: str, limit: str, change: str, *, fits: bool, status: int = _COLLECTED
) -> Check:
    state: State = "ok" if fits else "warning"
    return Check(name, found, limit, state, "" if fits else change, 0 if fits else status)
