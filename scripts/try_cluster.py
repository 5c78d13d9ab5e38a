"""The same run on local[2] and on clusters: `python scripts/try_cluster.py [--only KIND]`.

Each cluster is made of real processes on this machine. Its workers see neither this project nor
this Python nor LightFM (for which this needs root). Executors have the Python of
`scripts/package.sh executor`, and the driver of YARN's cluster mode that of
`scripts/package.sh driver`.

standalone     Spark's master and two workers; input and root in local directories
yarn-client    YARN with two NodeManagers; input and root on HDFS
yarn-cluster   the same, and the driver runs in a container

It prints a checksum of lists and statuses of each, and exits with 1 if one differs from local[2]'s.
What cannot be had on this machine is left out, with the reason.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from cluster_runs import (
    DAY,
    LOOPBACK,
    ROOT,
    SIZES,
    Cluster,
    Ran,
    UnavailableError,
    cluster,
    fetch,
    package,
    ran,
    said,
    submit_command,
    write_configuration,
    write_ratings,
)

KINDS = ("standalone", "yarn-client", "yarn-cluster")
PACKED = "./environment/bin/python"


@dataclass(frozen=True)
class Trial:
    """One folder for ratings, archives, roots and logs."""

    folder: Path

    @property
    def ratings(self) -> Path:
        path = self.folder / "ratings.csv"
        return path if path.exists() else write_ratings(path)

    def executor(self) -> str:
        return f"{package('executor', self.folder / 'executor.tar.gz')}#environment"

    def driver(self) -> str:
        return f"{package('driver', self.folder / 'driver.tar.gz')}#environment"

    def reference(self) -> dict[str, str]:
        """Run on local[2] and return what is published."""
        root = self.folder / "local"
        if (root / "publications").exists():  # of a trial in the same folder
            return said(root)
        config = write_configuration(self.folder / "local.yaml", str(root), str(self.ratings))
        command = [sys.executable, str(ROOT / "jobs" / "run.py"), "--config", str(config)]
        command += ["--set", "spark.spark.master=local[2]", "--set", "spark.spark.driver.memory=1g"]
        return self.published(
            ran([*command, "--run-id", "r1", "--run-date", DAY], {}, self.folder / "local.log"),
            root,
        )

    def published(self, outcome: Ran, root: Path) -> dict[str, str]:
        if outcome.status:
            raise RuntimeError(f"status {outcome.status}: {outcome.output[-3000:]}")
        return said(root)

    def standalone(self, at: Cluster) -> dict[str, str]:
        root = self.folder / "standalone-root"
        shutil.rmtree(root, ignore_errors=True)  # of a trial in the same folder
        config = write_configuration(self.folder / "standalone.yaml", str(root), str(self.ratings))
        options = ["--master", at.environment["SPARK_MASTER"], "--archives", self.executor()]
        command = submit_command(
            options, {**SIZES, **LOOPBACK}, "run", self.arguments("r1", str(config))
        )
        environment = {"PYSPARK_DRIVER_PYTHON": sys.executable, "PYSPARK_PYTHON": PACKED}
        return self.published(ran(command, environment, self.folder / "standalone.log"), root)

    def yarn(self, at: Cluster, mode: str) -> dict[str, str]:
        hdfs = at.environment["HDFS"]
        root = f"{hdfs}/root-{mode}"
        at.hadoop("-mkdir", "-p", f"{hdfs}/input")
        at.hadoop("-put", "-f", str(self.ratings), f"{hdfs}/input/ratings.csv")
        name = f"yarn-{mode}.yaml"
        config = write_configuration(self.folder / name, root, f"{hdfs}/input/ratings.csv")
        settings = {
            **SIZES,
            **LOOPBACK,
            "spark.yarn.jars": f"local:{at.environment['SPARK_JARS']}/*",
        }
        options = ["--master", "yarn", "--deploy-mode", mode]
        environment = dict(at.environment)
        if mode == "client":
            options += ["--archives", self.executor()]
            environment |= {"PYSPARK_PYTHON": PACKED, "PYSPARK_DRIVER_PYTHON": sys.executable}
            arguments = self.arguments("r1", str(config))
        else:  # the container has neither this folder nor this Python
            options += ["--archives", self.driver(), "--files", str(config)]
            settings["spark.yarn.appMasterEnv.PYSPARK_PYTHON"] = PACKED
            arguments = self.arguments("r1", name)
        command = submit_command(options, settings, "run", arguments)
        outcome = ran(command, environment, self.folder / f"yarn-{mode}.log")
        if outcome.status:
            raise RuntimeError(f"status {outcome.status}: {outcome.output[-3000:]}")
        return said(fetch(at, root, self.folder / f"yarn-{mode}-root"))

    @staticmethod
    def arguments(run_id: str, config: str) -> list[str]:
        return ["--config", config, "--run-id", run_id, "--run-date", DAY]


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(KINDS), multiple=True, help="These clusters alone.")
@click.option("--keep", type=click.Path(path_type=Path), help="Work there, and leave all.")
def main(only: tuple[str, ...], keep: Path | None) -> None:
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="recsys-cluster-")
        folder = keep.absolute() if keep else Path(stack.enter_context(temporary))
        folder.mkdir(parents=True, exist_ok=True)
        same = compare(Trial(folder), only or KINDS)
    sys.exit(not same)


def compare(trial: Trial, kinds: tuple[str, ...]) -> bool:
    """Print what each cluster publishes beside local[2]; return whether all are the same."""
    expected = timed("local[2]", trial.reference, None)
    same = True
    if "standalone" in kinds:
        same &= on("standalone", trial, {"standalone": trial.standalone}, expected)
    modes = [kind.removeprefix("yarn-") for kind in kinds if kind.startswith("yarn-")]
    if modes:
        runs = {f"yarn {mode}": partial(trial.yarn, mode=mode) for mode in modes}
        same &= on("yarn", trial, runs, expected)
    return same


def on(
    kind: str,
    trial: Trial,
    runs: Mapping[str, Callable[[Cluster], dict[str, str]]],
    expected: dict[str, str] | None,
) -> bool:
    """Run on one cluster; return whether everything that ran is as expected."""
    try:
        with cluster(kind, trial.folder / kind, hidden=True) as at:
            found = [timed(name, partial(run, at), expected) for name, run in runs.items()]
    except UnavailableError as error:
        print(f"{kind:14} left out: {error}", flush=True)
        return True
    return all(one == expected for one in found)


def timed(
    name: str, run: Callable[[], dict[str, str]], expected: dict[str, str] | None
) -> dict[str, str] | None:
    """Run, and print what is published; None where the run failed."""
    began = time.monotonic()
    try:
        found = run()
    except RuntimeError as error:
        print(f"{name:14} FAILED  {error}", flush=True)
        return None
    verdict = "reference" if expected is None else "same" if found == expected else "DIFFERENT"
    sums = "  ".join(f"{table} {digest}" for table, digest in found.items())
    print(f"{name:14} {verdict:9} {time.monotonic() - began:6.0f} s  {sums}", flush=True)
    return found


if __name__ == "__main__":
    main()
