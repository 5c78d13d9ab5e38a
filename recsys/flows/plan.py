"""`recsys plan`: what a run would do, how large it would be and how long it would take.

Nothing is run, read in whole or written, and Spark is not started. The numbers are those of the
newest complete run of the same command in this root, scaled by the size of the input. Without one,
the files of the input say about how many rows there are.
"""

from collections.abc import Sequence

from recsys.config import requirements
from recsys.config.configuration import Config
from recsys.config.reading import load_config
from recsys.config.sections import Training
from recsys.errors import ConfigError
from recsys.flows.answer import answer
from recsys.flows.earlier import newest_run
from recsys.flows.manifest import RunManifest
from recsys.ingest.input_size import input_bytes, input_rows
from recsys.ingest.manifest import InteractionsManifest
from recsys.model.sample_report import SampleReport
from recsys.store.files import Files
from recsys.store.manifest import MANIFEST, File, ManifestError, Part
from recsys.store.posix import open_local

_TRAIN = ("preflight", "prepare", "collect", "train", "fold-in", "write model")
_SCORE = ("cohort", "score", "judge", "publish")
STEPS: dict[str, tuple[str, ...]] = {
    "run": (*_TRAIN, *_SCORE),
    "train": _TRAIN,
    "score": ("preflight", *_SCORE),
    "evaluate": ("preflight", "prepare", "split", "evaluate", "estimate", "publish"),
}
# Which of them take longer with more ratings; the others with more requests, or never.
_WITH_RATINGS = ("prepare", "collect", "train", "fold-in", "split", "evaluate")


class Step(Part):
    """One step of a run that was not made yet. What is not known is null."""

    step: str
    """Its name, as in the log and in `timings_seconds`."""
    rows: int | None
    """About how many rows it works on or writes."""
    bytes: int | None
    """About how many bytes it reads or writes."""
    seconds: float | None
    """About how long it takes."""


class Plan(Part):
    """What a run would do."""

    command: str
    """Which command."""
    root: str
    """Where it would publish."""
    by_run: str | None
    """The earlier run of the root that the numbers come from; null where there is none."""
    input_bytes: int | None
    """Size of the input's files; null where they are not on this machine."""
    scale: float
    """By how much the input is larger than that of the earlier run; 1 where that is not known."""
    sample: SampleReport | None
    """Which users the earlier run trained on, with those added for rare items; null where all were,
    or there is none. A smaller or larger driver may take another share."""
    steps: list[Step]
    """The steps in their order."""
    minutes: float | None
    """About how long all of them take; null without an earlier run."""


def make_plan(config: Config, files: Files, command: str) -> Plan:
    """Return what a run would do.

    Args:
        config: its configuration.
        files: the root, which need not be there.
        command: one of STEPS.
    """
    run = newest_run(files, (command,))
    n_bytes = input_bytes(config.input)
    before = None if run is None else _prepared(files, run)
    scale = 1.0
    if before is not None and before.input.bytes and n_bytes:
        scale = n_bytes / before.input.bytes
    steps = [_step(name, config, run, scale, n_bytes) for name in STEPS[command]]
    known = [step.seconds for step in steps if step.seconds is not None]
    return Plan(
        command=command,
        root=files.root,
        by_run=None if run is None else run.run_id,
        input_bytes=n_bytes,
        scale=round(scale, 4),
        sample=None if run is None else run.sample,
        steps=steps,
        minutes=round(sum(known) / 60, 2) if known else None,
    )


def _step(
    name: str, config: Config, run: RunManifest | None, scale: float, n_bytes: int | None
) -> Step:
    size = n_bytes if name == "prepare" else None
    if run is None:
        rows = input_rows(config.input) if name == "prepare" else None
        return Step(step=name, rows=rows, bytes=size, seconds=None)
    grows = scale if name in _WITH_RATINGS else 1.0
    seconds = run.timings_seconds.get(name)
    if seconds is not None:
        seconds *= grows * (_more_training(config, run) if name == "train" else 1.0)
    rows = run.step_rows.get(name)
    written = {"score": ("recommendations", "status")}.get(name, ())
    listed = [file.bytes for key in written for file in _files(run, key)]
    return Step(
        step=name,
        rows=None if rows is None else round(rows * grows),
        bytes=sum(listed) if listed else size,
        seconds=None if seconds is None else round(seconds, 1),
    )


def _files(run: RunManifest, table: str) -> Sequence[File]:
    found = run.outputs.get(table)
    return () if found is None else found.files or ()


def _more_training(config: Config, run: RunManifest) -> float:
    """Return how many times as long training takes, by epochs and components."""
    try:
        before = Training.model_validate(run.configuration["training"])
    except (KeyError, ValueError):  # an older version knew other keys
        return 1.0
    now = config.training
    return (now.epochs * now.no_components) / (before.epochs * before.no_components)


def _prepared(files: Files, run: RunManifest) -> InteractionsManifest | None:
    table = run.outputs.get("interactions")
    if table is None:
        return None
    name = table.uri.rpartition("/")[2]
    try:
        return InteractionsManifest.from_json(files.read(files.uri("interactions", name, MANIFEST)))
    except (FileNotFoundError, ManifestError):  # cleaned meanwhile
        return None


def execute(
    command: str, config: str | None, overrides: Sequence[str], *, as_json: bool, debug: bool
) -> int:
    """Print a plan, and return the exit status (docs/reference/exit-statuses.md)."""

    def act() -> None:
        loaded = load_config(config, overrides)
        wanted = {
            "score": requirements.for_scoring,
            "evaluate": requirements.for_evaluation,
        }.get(command, requirements.for_training)
        if lacking := list(wanted(loaded)):
            raise ConfigError("; ".join(lacking))
        plan = make_plan(loaded, open_local(loaded.root), command)
        print(plan.model_dump_json(indent=2)) if as_json else _print(plan)

    return answer(act, debug=debug)


def _print(plan: Plan) -> None:
    line = "{:12} {:>14} {:>12} {:>9}"
    print(line.format("step", "rows", "size", "minutes"))
    for step in plan.steps:
        rows = "" if step.rows is None else f"{step.rows:,}"
        size = "" if step.bytes is None else f"{step.bytes / 2**20:,.1f} MiB"
        minutes = "" if step.seconds is None else f"{step.seconds / 60:,.2f}"
        print(line.format(step.step, rows, size, minutes).rstrip())
    if plan.by_run is None:
        print(f"no complete run of {plan.command} in {plan.root}: minutes are not known")
    else:
        scaled = f"{plan.scale:.2f} times its input"
        if (one := plan.sample) is not None:
            print(
                f"that run trained on {one.users:,} of {one.of_users:,} users (share "
                f"{one.share:g}, {one.added_users:,} of them added for rare items)"
            )
        print(f"about {plan.minutes} minutes, by run {plan.by_run} and {scaled}")
