"""Which build of this package runs: the commit of a checkout, or that of an installed wheel."""

import importlib.metadata
import re
import subprocess
from functools import cache
from pathlib import Path

DISTRIBUTION = "recsys-batch"
UNKNOWN = "unknown"


def version() -> str:
    """Return the version of the installed package; of a checkout that of its installation."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


@cache
def commit() -> str:
    """Return the commit of what runs, with `-dirty` where files differ from it, or `unknown`."""
    return commit_of(Path(__file__).parents[2], version())


def commit_of(root: Path, built: str) -> str:
    """Return the commit of a checkout or, where there is none, of a build.

    Args:
        root: the directory above the package.
        built: the version of the installed package, whose local part names the commit.
    """
    if (root / ".git").exists():
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        if head and changed is not None:
            return head + ("-dirty" if changed else "")
        return UNKNOWN
    found = re.search(r"\+g([0-9a-f]+)(\.d\d+)?", built)
    return found[1] + ("-dirty" if found[2] else "") if found else UNKNOWN


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints; None where it fails or is not there."""
    try:
        ran = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(root), *arguments],  # noqa: S607 - the git of the path
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()
