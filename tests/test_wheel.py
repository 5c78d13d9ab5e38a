"""The built wheel, installed into an environment of its own, without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, small_ratings

Fresh = Callable[..., subprocess.CompletedProcess[str]]
SOURCES = ["recsys", "conf", "pyproject.toml", "README.md", "LICENSE"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy, so that nothing is left in the checkout.

    The copy is a Git repository: setuptools-scm then lists the files, links among them.
    """
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            built = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=built)
        else:
            shutil.copy(ROOT / name, folder / name)
    git = ["git", "-C", folder, "-c", "user.name=x", "-c", "user.email=x@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    subprocess.run(
        [sys.executable, "-m", "build", folder],
        env={**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": "0.1.dev1+gabc1234"},
        check=True,
    )
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    """Install it into a virtual environment whose other packages are links to this one's."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    site = next(folder.glob("venv/lib/python*/site-packages"))
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "recsys" not in path.name:  # neither the checkout nor what leads to it
            (site / path.name).symlink_to(path)
    python = folder / "venv/bin/python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel]
    subprocess.run(install, check=True)

    def run(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [folder / "venv/bin" / name, *arguments],
            cwd=folder,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def test_the_wheel_has_the_package_its_data_and_its_licence_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"recsys", "recsys_batch-0.1.dev1+gabc1234.dist-info"}
    data = {"recsys/py.typed", "recsys/runtime/quiet-log4j2.properties"}
    data |= {f"recsys/conf/{path.name}" for path in (ROOT / "conf").iterdir()}
    assert data <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name]
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "recsys").rglob("*.py")}
    assert modules - set(names) == set()


def test_commands_answer_from_the_installed_package(fresh: Fresh) -> None:
    place = fresh("python", "-c", "import recsys; print(recsys.__file__)").stdout
    assert "/venv/lib/python" in place
    assert str(ROOT) not in fresh("python", "-c", "import sys; print(sys.path)").stdout
    shown = fresh("recsys", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "evaluate" in shown.stdout
    assert fresh("recsys", "config").stdout == (ROOT / "conf/base.yaml").read_text()
    assert fresh("recsys", "config", "demo").stdout == (ROOT / "conf/demo.yaml").read_text()
    assert fresh("recsys", "--version").stdout == ("recsys 0.1.dev1+gabc1234, commit abc1234\n")


def test_a_small_run_needs_nothing_of_the_checkout(fresh: Fresh, tmp_path: Path) -> None:
    ratings = tmp_path / "ratings.csv"
    lines = ["user,item,rating,timestamp", *(",".join(map(str, row)) for row in small_ratings())]
    ratings.write_text("\n".join(lines) + "\n")
    config = tmp_path / "c.yaml"
    config.write_text(
        f"root: {tmp_path / 'out'}\n"
        f"input: {{path: {ratings}, options: {{header: true}}, "
        "columns: {user: user, item: item, rating: rating, timestamp: timestamp}}\n"
        "training: {threads: 1, epochs: 2, no_components: 4, early_stopping: null}\n"
        "spark: {spark.master: 'local[1]', spark.driver.memory: 1g, spark.ui.enabled: false}\n"
    )
    ran = fresh("recsys", "run", "--config", config, "--run-id", "r1")
    assert ran.returncode == 0, ran.stderr
    manifest = json.loads((tmp_path / "out/runs/r1/manifest.json").read_text())
    assert manifest["versions"]["commit"] == "abc1234"
    assert manifest["outputs"]["recommendations"]["rows"] == 300
