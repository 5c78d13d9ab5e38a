"""Make a relocatable archive of a Python and its packages: `scripts/package.sh` runs this.

A packed virtual environment does not work elsewhere: its `bin/python` is a link to an interpreter
that the worker does not have, and its standard library is that interpreter's. This archive carries
a real interpreter, its standard library and the shared libraries that both need, except glibc's.
Python finds its library beside its own binary, so the archive works wherever it is unpacked.
"""

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = "recsys-batch"
KINDS = {
    "executor": ("numpy", "pandas", "pyarrow"),
    "driver": (OURS, "psycopg2-binary", "pyiceberg"),
}
# Spark sends its own Python sources to executors, and to a driver in cluster mode.
LEFT_OUT = {"pyspark", "py4j"}
# Of glibc and the compiler: the worker's own, which its Java needs as well.
SYSTEM = re.compile(
    r"(ld-linux.*|linux-vdso|libc|libm|libdl|libpthread|librt|libutil|libresolv|libanl|libgcc_s"
    r"|libstdc\+\+)\.so"
)
LIBRARY = shutil.ignore_patterns(
    "site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib", "tkinter",
    "turtledemo", "ensurepip", "lib2to3", "config-*", "_tkinter*", "*.a",
)  # fmt: skip
LAUNCHER = """#!/bin/sh
# Python of this archive: with its own libraries, and without what belongs to another Python.
here=$(dirname "$(readlink -f "$0")")
unset PYTHONHOME
export PYTHONNOUSERSITE=1
export LD_LIBRARY_PATH="$here/../lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$here/NAME" "$@"
"""
CHECK = """
import importlib, os, sys
home = os.path.realpath(sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
mapped = {line.split()[-1] for line in open("/proc/self/maps") if "/" in line}
allowed = (home + os.sep, "/lib/", "/lib64/", "/usr/lib/", "/usr/share/", "/dev/", "/etc/")
loaded = {m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)}
strange = sorted(p for p in mapped if not p.startswith(allowed))
strange += sorted(p for p in loaded if not os.path.realpath(p).startswith(home + os.sep))
if strange:
    raise SystemExit(f"not of the archive: {strange[:5]}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("archive", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "environment")
        interpreter(home)
        site = home / "lib" / version() / "site-packages"
        packages(given.kind, site)
        bundle_libraries(home)
        check(home, given.kind)
        given.archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(given.archive, "w:gz", compresslevel=1) as packed:
            packed.add(home, arcname=".")
    print(f"{given.archive}  {given.archive.stat().st_size / 2**20:.0f} MiB")


def version() -> str:
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def interpreter(home: Path) -> None:
    """Copy the interpreter below this environment, its standard library and its shared library."""
    (home / "bin").mkdir(parents=True)
    base = getattr(sys, "_base_executable", sys.executable)
    shutil.copy2(Path(base).resolve(), home / "bin" / version())
    launcher = home / "bin" / "python"
    launcher.write_text(LAUNCHER.replace("NAME", version()))
    launcher.chmod(0o755)
    (home / "bin" / "python3").symlink_to("python")
    library = home / "lib" / version()
    shutil.copytree(sysconfig.get_path("stdlib"), library, ignore=LIBRARY)
    (library / "site-packages").mkdir()
    (library / "dist-packages").symlink_to("site-packages")  # where Debian's Python looks


def packages(kind: str, site: Path) -> None:
    """Copy distributions with all that they need."""
    for name in sorted(closure(KINDS[kind])):
        copy_distribution(importlib.metadata.distribution(name), site)
    # The checkout itself: an editable installation has no files of its own.
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "recsys", site / "recsys", dirs_exist_ok=True, ignore=skipped)


def closure(names: tuple[str, ...]) -> set[str]:
    """Return the names of distributions and of those that they require."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    todo = [Requirement(name) for name in names]
    while todo:
        wanted = todo.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        try:
            requires = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            if name in KINDS["executor"] or name == OURS:
                raise SystemExit(
                    f"package.sh: {name} is not installed for {sys.executable}"
                ) from None
            continue  # an extra that is not installed here
        if name in found or name in LEFT_OUT:
            continue
        found.add(name)
        for text in requires:
            one = Requirement(text)
            environments = [{"extra": extra} for extra in wanted.extras] or [{"extra": ""}]
            if one.marker is None or any(one.marker.evaluate(e) for e in environments):
                todo.append(one)
    return found


def copy_distribution(distribution: importlib.metadata.Distribution, site: Path) -> None:
    """Copy the files of a distribution, without its tests, headers and scripts."""
    for file in distribution.files or []:
        parts = file.parts
        left_out = {"..", "__pycache__", "tests", "include"}.intersection(parts)
        if left_out or parts[0].startswith("__editable__"):
            continue
        source = Path(str(file.locate()))
        if not source.is_file():
            continue
        target = site.joinpath(*parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def bundle_libraries(home: Path) -> None:
    """Copy the shared libraries that the interpreter and the standard library are linked with."""
    binaries = [home / "bin" / version(), *home.glob("lib/python*/lib-dynload/*.so")]
    for name, source in sorted({pair for binary in binaries for pair in linked(binary)}):
        if not SYSTEM.match(name):
            shutil.copy2(Path(source).resolve(), home / "lib" / name)


def linked(binary: Path) -> Iterator[tuple[str, str]]:
    """Yield the names and paths of all shared libraries that a binary needs."""
    said = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout  # noqa: S607
    for found in re.finditer(r"^\s*(\S+) => (/\S+)", said, re.MULTILINE):
        yield found[1], found[2]


def check(home: Path, kind: str) -> None:
    """Import everything in the archive's Python, with nothing else in reach by name."""
    modules = ["numpy", "pandas", "pyarrow", "pyarrow.parquet", "recsys.kernel.topk"]
    modules += ["ctypes", "hashlib", "zlib", "lzma", "bz2"]
    if kind == "driver":
        modules += ["lightfm", "scipy.sparse", "pydantic", "yaml", "click"]
    command = [str(home / "bin" / "python"), "-B", "-c", CHECK, str(home), *modules]
    environment = {"PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd="/", check=False
    )
    if ran.returncode:
        raise SystemExit(f"package.sh: the packed Python does not work:\n{ran.stderr}")


if __name__ == "__main__":
    main()
