"""Spark's Python workers: a Python that cannot do the work is found before anything expensive."""

import os
import re
import signal
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.errors import PythonException
from pyspark.sql import SparkSession

from recsys.errors import ConfigError, MemoryLimitError
from recsys.flows.execution import _exit_code
from recsys.runtime.run import versions
from recsys.runtime.workers import NEEDED, _tell, look_at_workers, worker_error
from recsys.store.tables import Store
from tests.conftest import ROOT, csv_input, small_ratings
from tests.interpreters import interpreter, site

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def worker(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | str], None]:
    """Let the workers of the suite's session be another Python."""
    return lambda path: monkeypatch.setattr(spark.sparkContext, "pythonExec", str(path))


def test_what_a_worker_must_have_is_what_this_package_needs_itself() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for name, (oldest, below) in NEEDED.items():
        assert f"{name}>={oldest}" + (f",<{below}" if below else "") in declared


def test_the_versions_on_a_worker_are_logged_and_recorded(
    run: Run, ratings_csv: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    found = run("run", input=csv_input(ratings_csv(small_ratings())))["workers"]
    assert found == {name: versions()[name] for name in ("python", "numpy", "pandas", "pyarrow")}
    assert f"Python workers: python {found['python']}, numpy {np.__version__}, " in caplog.text


def gone(folder: Path) -> tuple[Path, str]:
    return folder / "python", r"python' cannot be run \(No such file or directory\); set spark\.py"


def not_executable(folder: Path) -> tuple[Path, str]:
    (folder / "python").touch()
    return folder / "python", r"python' cannot be run \(Permission denied\); set spark\.pyspark\.py"


def no_python(folder: Path) -> tuple[Path, str]:
    return Path("/bin/false"), r"their Python '/bin/false' does not behave like Python 3\.\d+ with"


def talks(folder: Path) -> tuple[Path, str]:
    return Path("/bin/echo"), r"their Python '/bin/echo' does not behave like Python 3\.\d+ with Py"


def breaks(folder: Path) -> tuple[Path, str]:
    made = interpreter(folder / "v", [])
    (site(folder / "v") / "socketserver.py").touch()
    (site(folder / "v") / "b.pth").write_text("import os; os._exit(3)\n")
    return made, r"does not behave like Python"


def bare(folder: Path) -> tuple[Path, str]:
    told = (
        r"\(3\.\d+\.\d+\) on \S+ lacks numpy, pandas, pyarrow; install them there \(pip install "
        r'"numpy>=2\.0" "pandas>=2\.2\.2,<3" "pyarrow>=18"\), or set spark\.pyspark\.python'
    )
    return interpreter(folder / "v", []), told


def without_pyarrow(folder: Path) -> tuple[Path, str]:
    packages = ["numpy", "numpy.libs", "pandas", "pytz", "dateutil", "six.py"]
    return interpreter(
        folder / "v", packages
    ), r"\) on \S+ lacks pyarrow; install them there \(pip install"


def with_an_old_pandas(folder: Path) -> tuple[Path, str]:
    made = interpreter(folder / "v", ["numpy", "numpy.libs", "pyarrow", "pyarrow.libs"])
    (site(folder / "v") / "pandas.py").write_text("__version__ = '2.2.1'\n")
    return made, r"\) on \S+ has pandas 2\.2\.1, expected >=2\.2\.2,<3; install that there"


def with_a_broken_numpy(folder: Path) -> tuple[Path, str]:
    made = interpreter(folder / "v", [])
    (site(folder / "v") / "numpy.py").write_text("raise ImportError('libblas.so.3: not found')\n")
    for name in ("pandas", "pyarrow"):
        (site(folder / "v") / f"{name}.py").write_text("__version__ = '99'\n")
    return made, r"cannot import numpy \(ImportError: libblas\.so\.3: not found\); install it there"


def with_another_pandas(folder: Path) -> tuple[Path, str]:
    made = interpreter(folder / "v", ["numpy", "numpy.libs", "pyarrow", "pyarrow.libs"])
    (site(folder / "v") / "pandas.py").write_text("__version__ = '2.2.99'\n")
    mine = re.escape(pd.__version__)
    return made, rf"\) on \S+ has pandas 2\.2\.99, and the driver has pandas {mine}: expected the"


@pytest.mark.parametrize(
    "python",
    [
        gone,
        not_executable,
        no_python,
        talks,
        breaks,
        bare,
        without_pyarrow,
        with_an_old_pandas,
        with_another_pandas,
        with_a_broken_numpy,
    ],
)
def test_a_python_that_cannot_do_the_work_is_told_with_what_to_change(
    spark: SparkSession,
    worker: Callable[[Path | str], None],
    tmp_path: Path,
    python: Callable[[Path], tuple[Path, str]],
) -> None:
    path, told = python(tmp_path)
    worker(path)
    with pytest.raises(ConfigError, match=told) as caught:
        look_at_workers(spark)
    assert "\n" not in str(caught.value)
    assert "root" not in str(caught.value).replace(str(path), "")


def test_a_python_of_another_minor_version_is_told(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spark.sparkContext, "pythonVer", "3.7")  # of the driver, as workers hear
    with pytest.raises(
        ConfigError, match=r"is 3\.\d+, and the driver's is 3\.7: PySpark needs the"
    ):
        look_at_workers(spark)


def test_a_kernel_that_cannot_be_imported_is_told(
    spark: SparkSession,
    worker: Callable[[Path | str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker(interpreter(tmp_path / "v"))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as zipped:
        zipped.writestr("recsys/__init__.py", "")
    spark.sparkContext.addFile(str(tmp_path / "other.zip"))
    # One that does not look for modules in the current directory.
    monkeypatch.setitem(spark.sparkContext.environment, "PYTHONSAFEPATH", "1")
    monkeypatch.setattr(spark.sparkContext, "_python_includes", ["other.zip"])
    with pytest.raises(ConfigError, match=r"cannot import recsys\.kernel, which is sent to every"):
        look_at_workers(spark)


@pytest.mark.parametrize("job", ["run", "evaluate"])
def test_a_worker_is_looked_at_before_anything_is_prepared(
    run: Run, worker: Callable[[Path | str], None], ratings_csv: Any, tmp_path: Path, job: str
) -> None:
    worker("/nope/python")
    with pytest.raises(ConfigError, match="'/nope/python' cannot be run") as caught:
        run(job, input=csv_input(ratings_csv(small_ratings())))
    assert _exit_code(caught.value) == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["runs"]


def test_score_and_similar_look_at_a_worker_too(
    run: Run, worker: Callable[[Path | str], None], ratings_csv: Any
) -> None:
    given = {"input": csv_input(ratings_csv(small_ratings()))}
    worker("/nope/python")
    trained = run("train", run_id="t", **given)  # which needs none
    assert trained["workers"] == {}
    for job in ("score", "similar-items", "similar-users"):
        with pytest.raises(ConfigError, match="'/nope/python' cannot be run"):
            run(job, run_id=job, model_id=trained["model_id"], **given)


def killed(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for frame in frames:
        os.kill(os.getpid(), signal.SIGKILL)
        yield frame


def wrong(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for frame in frames:
        raise ValueError("no such thing")
        yield frame


def test_what_fails_in_a_worker_is_not_blamed_on_the_root(
    spark: SparkSession,
    worker: Callable[[Path | str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(spark, str(tmp_path))
    monkeypatch.setitem(spark.sparkContext.environment, "WORKER", "a new one")
    # By value: the workers have no tests.
    functions = {name: _local(function) for name, function in (("k", killed), ("w", wrong))}
    frame = spark.range(2).coalesce(1)
    with pytest.raises(MemoryLimitError, match="ended in the middle of its work"):
        store.write_table(frame.mapInPandas(functions["k"], "id long"), f"{tmp_path}/k", "id long")
    with pytest.raises(PythonException, match="no such thing"):
        store.write_table(frame.mapInPandas(functions["w"], "id long"), f"{tmp_path}/w", "id long")
    worker("/nope/python")
    with pytest.raises(ConfigError, match="'/nope/python' cannot be run"):
        store.write_table(frame.mapInPandas(functions["w"], "id long"), f"{tmp_path}/n", "id long")


def _local(function: Callable[..., Any]) -> Callable[..., Any]:
    import types

    copied = types.FunctionType(function.__code__, {**function.__globals__, "__name__": "__main__"})
    copied.__module__ = "__main__"
    return copied


def test_an_error_of_another_kind_means_nothing_here() -> None:
    assert worker_error(ValueError("no Python has a part in it")) is None
    error = "ModuleNotFoundError: No module named 'pyarrow'"
    assert re.search("has no module pyarrow", str(worker_error(ValueError(f"x\n{error}\n"))))


def test_executors_that_were_not_looked_at_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    _tell({"python": "3.11"}, 2, 2)
    assert caplog.messages == []
    _tell({"python": "3.11"}, 1, 3)
    assert caplog.messages[0].startswith("the Python workers of 2 executors were not looked at")
