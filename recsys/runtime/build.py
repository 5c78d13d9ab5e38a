"""Which build of this package runs: the commit of a checkout, or that of an installed wheel."""

import importlib.metadata
import os
import re
import subprocess
from functools import cache
from pathlib import Path

DISTRIBUTION = "recsys-batch"
UNKNOWN = "unknown"
_ROOT = Path(__file__).parents[2]
# A hook of git sets them: they name its own repository.
_OF_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


def version() -> str:
    """Return the version of the installed package; of a checkout without what commits change."""
    return version_of(_ROOT, _built())


def version_of(root: Path, built: str) -> str:
    """Return the version of a checkout or of a build.

    An editable installation keeps the version of the commit at which it was made. Of a checkout
    only that part is returned which later commits leave as it is: `0.1.1.dev` of `0.1.1.dev7+gabc`.

    Args:
        root: the directory above the package.
        built: the version of the installed package.
    """
    return re.sub(r"(\.dev)\d+.*|\+.*", r"\1", built) if _is_checkout(root) else built


@cache
def commit() -> str:
    """Return the commit of what runs, with `-dirty` where files differ from it, or `unknown`."""
    return commit_of(_ROOT, _built())


def commit_of(root: Path, built: str) -> str:
    """Return the commit of a checkout or, where there is none, of a build.

    Args:
        root: the directory above the package.
        built: the version of the installed package, whose local part names the commit.
    """
    if _is_checkout(root):
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
        if head and changed is not None:
            return head + ("-dirty" if changed else "")
        return UNKNOWN
    found = re.search(r"\+g([0-9a-f]+)(\.d\d+)?", built)
    return found[1] + ("-dirty" if found[2] else "") if found else UNKNOWN


def _built() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


def _is_checkout(root: Path) -> bool:
    return (root / ".git").exists()


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints; None where it fails or is not there."""
    environment = {k: v for k, v in os.environ.items() if k not in _OF_HOOKS}
    # It takes no lock: somebody may commit in the checkout at the same time.
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        ran = subprocess.run(  # noqa: S603 - fixed arguments
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()
