"""Pythons for Spark's workers: virtual environments that have certain packages and no others."""

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

# What executors need, with what that needs.
NEEDED = ("numpy", "numpy.libs", "pandas", "pyarrow", "pyarrow.libs", "pytz", "dateutil", "six.py")


def interpreter(folder: Path, packages: Sequence[str] = NEEDED) -> Path:
    """Make a virtual environment, and return its Python.

    Its packages are links to this environment's, so that making it takes no network and no time.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    for name in packages:
        source = Path(sysconfig.get_path("purelib")) / name
        if source.exists():
            (site(folder) / name).symlink_to(source)
    return folder / "bin" / "python"


def site(folder: Path) -> Path:
    """Return the directory of an environment's packages."""
    return next(folder.glob("lib/python*/site-packages"))
