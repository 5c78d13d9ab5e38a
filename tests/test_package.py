"""The packed Python works where the Python that it was made of cannot be reached."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.mounts import mounted

SCORES = """
import sys
import numpy as np
from recsys.kernel.published import in_order

assert not [p for p in sys.path if p and not p.startswith(sys.argv[1])], sys.path
chance = np.random.default_rng(7)
users, items = (chance.normal(size=(n, 9)).astype(np.float32) for n in (5, 7))
users[:, -1] = 1
user, item = np.repeat(np.arange(5), 7), np.tile(np.arange(7), 5)
print(in_order(users, users[:, 0], items, user, item).tobytes().hex())
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the archive of executors, and unpack it at another place."""
    folder = tmp_path_factory.mktemp("package")
    archive = folder / "environment.tar.gz"
    command = ["bash", str(ROOT / "scripts" / "package.sh"), "executor", str(archive)]
    made = subprocess.run(command, capture_output=True, text=True, env={"PYTHON": sys.executable})
    assert made.returncode == 0, made.stderr
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "elsewhere", filter="tar")
    return folder / "elsewhere"


def test_nothing_in_the_archive_leads_out_of_it(unpacked: Path) -> None:
    outside = [
        path
        for path in unpacked.rglob("*")
        if path.is_symlink() and not path.resolve().is_relative_to(unpacked)
    ]
    assert outside == []
    assert not (unpacked / "pyvenv.cfg").exists()
    assert not list(unpacked.rglob("lightfm")) + list(unpacked.rglob("scipy"))


def test_the_packed_python_scores_with_the_original_out_of_reach(unpacked: Path) -> None:
    here = subprocess.run(
        [sys.executable, "-c", _without_the_look(), "x"],
        capture_output=True,
        text=True,
        check=False,
    )
    hidden = {str(Path(place).resolve()) for place in (sys.prefix, sys.base_prefix, ROOT)} - {
        "/usr"
    }
    mounts = [
        f'if [ -d "{place}" ]; then mount -t tmpfs tmpfs "{place}"; fi' for place in sorted(hidden)
    ]
    script = " && ".join([*mounts, 'exec "$0" "$@"'])
    python = str(unpacked / "bin" / "python")
    mounted(["unshare", "--mount", "true"])
    there = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, python, "-c", SCORES, str(unpacked)],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
    )
    assert there.returncode == 0, there.stderr
    assert there.stdout
    assert there.stdout == here.stdout


def _without_the_look() -> str:
    return "\n".join(line for line in SCORES.splitlines() if "sys.path" not in line)
