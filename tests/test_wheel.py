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
    """Build the wheel from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, folder / name)
    # As in a checkout: git says what a wheel takes in, and which commit it is made of.
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=n", "-c", "user.email=e@example.com", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", "-C", folder, *arguments], check=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder / "dist", folder],
        check=True,
    )
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def commit(wheel: Path) -> str:
    """Return the commit that the wheel was built from, as long as a version names it."""
    ran = ["git", "-C", wheel.parents[1], "rev-parse", "--short=9", "HEAD"]
    return subprocess.run(ran, capture_output=True, text=True, check=True).stdout.strip()


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


def test_the_wheel_has_the_package_its_data_and_its_licence_and_nothing_else(
    wheel: Path, commit: str
) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"recsys", f"recsys_batch-0.1.1.dev1+g{commit}.dist-info"}
    data = {"recsys/py.typed", "recsys/runtime/quiet-log4j2.properties", "recsys/conf/base.yaml"}
    assert data <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name]
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "recsys").rglob("*.py")}
    assert modules - set(names) == set()


def test_commands_answer_from_the_installed_package(fresh: Fresh, commit: str) -> None:
    place = fresh("python", "-c", "import recsys; print(recsys.__file__)").stdout
    assert "/venv/lib/python" in place
    assert str(ROOT) not in fresh("python", "-c", "import sys; print(sys.path)").stdout
    shown = fresh("recsys", "--help")
    assert shown.returncode == 0, shown.stderr
    assert "evaluate" in shown.stdout
    assert fresh("recsys", "config").stdout == (ROOT / "conf/base.yaml").read_text()
    said = fresh("recsys", "--version").stdout
    assert said == f"recsys 0.1.1.dev1+g{commit}, commit {commit}\n"


def test_a_small_run_needs_nothing_of_the_checkout(
    fresh: Fresh, commit: str, tmp_path: Path
) -> None:
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
    assert manifest["versions"]["commit"] == commit
    assert manifest["outputs"]["recommendations"]["rows"] == 300
