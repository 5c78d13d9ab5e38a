"""Faults in the middle of a run: `python scripts/try_faults.py [--only FAULT] [--keep DIR]`.

executor      an executor is killed while it scores
python        a Python worker is killed while it scores
speculation   every task may be started twice
datanode      one of two DataNodes is killed before lists are written; the root is on HDFS
namenode      the NameNode is killed after training, and started again

Each run must publish what local[2] publishes, or end with a status and show readers nothing new. On
HDFS a run that ended so is started again, and must then publish the same. It prints what happened,
and exits with 1 where that is not so, or where nothing was killed.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click
from cluster_runs import (
    LOOPBACK,
    PATIENCE,
    ROOT,
    SIZES,
    Cluster,
    Ran,
    UnavailableError,
    cluster,
    fetch,
    finish,
    said,
    start,
    submit_command,
    write_configuration,
)
from try_cluster import Trial

from recsys.errors import OutputError

FAULTS = ("executor", "python", "speculation", "datanode", "namenode")
SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.multiplier": "1.01",
    "spark.speculation.quantile": "0.1",
    "spark.speculation.minTaskRuntime": "1ms",
    "spark.speculation.interval": "10ms",
}


@click.command(help=__doc__)
@click.option("--only", type=click.Choice(FAULTS), multiple=True, help="These faults alone.")
@click.option("--keep", type=click.Path(path_type=Path), help="Work there, and leave all.")
def main(only: tuple[str, ...], keep: Path | None) -> None:
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="recsys-faults-")
        folder = keep.absolute() if keep else Path(stack.enter_context(temporary))
        folder.mkdir(parents=True, exist_ok=True)
        trial = Trial(folder)
        expected = trial.reference()
        well = True
        for fault in only or FAULTS:
            began = time.monotonic()
            try:
                told, good = _FAULTS[fault](trial, fault, expected)
            except UnavailableError as error:
                told, good = f"left out: {error}", True
            took = time.monotonic() - began
            print(f"{'ok' if good else 'WRONG':6} {fault:12} {took:6.0f} s  {told}", flush=True)
            well &= good
    sys.exit(not well)


def on_standalone(trial: Trial, fault: str, expected: dict[str, str]) -> tuple[str, bool]:
    """Run on a standalone cluster of which something is killed while it scores."""
    root = trial.folder / f"{fault}-root"
    shutil.rmtree(root, ignore_errors=True)  # of a trial in the same folder
    config = write_configuration(trial.folder / f"{fault}.yaml", str(root), str(trial.ratings))
    settings = {**SIZES, **LOOPBACK, **(SPECULATION if fault == "speculation" else {})}
    with cluster("standalone", trial.folder / fault) as at:
        options = ["--master", at.environment["SPARK_MASTER"]]
        command = submit_command(options, settings, "run", trial.arguments("r1", str(config)))
        log = trial.folder / f"{fault}.log"
        python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
        process = start(command, python, log)
        killed: str | None = ""
        if fault in ("executor", "python"):
            await_line(log, "] score ...", process)
            killed = kill_one(at, fault)
        outcome = finish(process, log)
        if killed is None:
            return f"NOTHING was killed; status {outcome.status}", False
        return judge(outcome, lambda: said(root), expected, killed)


def on_hdfs(trial: Trial, fault: str, expected: dict[str, str]) -> tuple[str, bool]:
    """Run on local[2] with a root on HDFS of which a server is killed at a point of the run."""
    with cluster("hdfs", trial.folder / fault) as at:
        root = f"{at.environment['HDFS']}/root"
        config = write_configuration(trial.folder / f"{fault}.yaml", root, f"file:{trial.ratings}")
        log, point = trial.folder / f"{fault}.log", trial.folder / f"{fault}-point"
        shutil.rmtree(point, ignore_errors=True)  # of a trial in the same folder
        point.mkdir()
        command = [sys.executable, str(ROOT / "jobs" / "run.py")]
        command += trial.arguments("r1", str(config))
        command += ["--set", "spark.spark.master=local[2]", "--set", "spark.spark.driver.memory=1g"]
        stop = {"RECSYS_STOP_AT": f"trained:{point}"}
        process = start(command, {**at.environment, **stop}, log)
        await_file(point / "reached", process)
        if not (point / "reached").exists():
            (point / "go").touch()
            return f"NOTHING was killed; status {finish(process, log).status}", False
        killed = "datanode1" if fault == "datanode" else "namenode"
        servers(at, "kill", killed)
        if fault == "namenode":
            servers(at, "restart", killed)
        (point / "go").touch()
        outcome = finish(process, log)

        await_answer(at)

        def read() -> dict[str, str]:
            return said(fetch(at, root, trial.folder / f"{fault}-root"))

        told, well = judge(outcome, read, expected, f"{killed} killed; ")
        if outcome.status == 0 or not well:
            return told, well
        log = trial.folder / f"{fault}-again.log"
        again = finish(start(command, at.environment, log), log)
        more, well = judge(again, read, expected, "")
        return f"{told}; started again: {more}", well and again.status == 0


def judge(
    outcome: Ran, read: Callable[[], dict[str, str]], expected: dict[str, str], killed: str
) -> tuple[str, bool]:
    """Say what became of a run, and whether that is well."""
    if outcome.status == 0:
        same = read() == expected
        return f"{killed}status 0, {'the same lists' if same else 'OTHER LISTS'}", same
    lines = [line for line in outcome.output.splitlines() if line.startswith("recsys: error")]
    nothing = False
    try:
        read()
        seen = "readers see LISTS that no run has finished"
    except OutputError:  # nothing is published, which is as it should be
        seen, nothing = "readers see nothing", True
    except Exception as error:
        seen = f"readers FAIL ({type(error).__name__}: {error})"
    told = (lines or outcome.output.splitlines()[-1:])[-1:]
    clean = bool(lines) and outcome.status not in (0, 1) and nothing
    return f"{killed}status {outcome.status}, {seen}: {' '.join(told)}", clean


def kill_one(at: Cluster, what: str) -> str | None:
    """Kill one executor, or one Python worker of one, as soon as there is one; None: none came."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for pid, command, parent in processes(at):
            executor = "CoarseGrainedExecutorBackend" in command
            # A daemon starts workers, which are copies of it.
            worker = "pyspark.daemon" in command and "pyspark.daemon" in command_of(parent)
            if executor if what == "executor" else worker:
                os.kill(pid, signal.SIGKILL)
                return f"process {pid} killed; "
        time.sleep(0.02)
    return None


def processes(at: Cluster) -> Iterator[tuple[int, str, int]]:
    """Yield the number, command and parent of each process of a cluster."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            if str(at.folder).encode() not in environment:
                continue
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
        yield int(folder.name), command_of(int(folder.name)), parent


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def servers(at: Cluster, action: str, name: str) -> None:
    script = str(ROOT / "scripts" / "cluster.sh")
    command = ["bash", script, action, name, str(at.folder)]
    subprocess.run(command, check=True)


def await_answer(at: Cluster) -> None:
    """Wait until HDFS lets files be made: a NameNode that was killed first hears its DataNodes."""
    deadline = time.monotonic() + 300
    while True:
        try:
            at.hadoop("-touchz", "/answered")
            return
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def await_line(log: Path, text: str, process: "subprocess.Popen[str]") -> None:
    await_(lambda: text in log.read_text(errors="replace"), process)


def await_file(path: Path, process: "subprocess.Popen[str]") -> None:
    await_(path.exists, process)


def await_(there: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait for something that a run does; return at once where the run has ended."""
    deadline = time.monotonic() + PATIENCE
    while not there() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


_FAULTS = {
    "executor": on_standalone,
    "python": on_standalone,
    "speculation": on_standalone,
    "datanode": on_hdfs,
    "namenode": on_hdfs,
}

if __name__ == "__main__":
    main()
