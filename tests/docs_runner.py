"""Use blocks of the documentation in order: `python docs_runner.py BLOCKS RESULTS` (JSON files).

All of them share one process and so one JVM: a command then costs its own work and no start. It is
a process of its own, since each command ends its Spark session.
"""

import contextlib
import io
import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import recsys
from recsys import cli

PACKAGE = str(Path(recsys.__file__).parent)


def main(blocks: Path, results: Path) -> None:
    spaces: dict[str, dict[str, Any]] = {}
    found = []
    for block in json.loads(blocks.read_text(encoding="utf-8")):
        files: set[str] = set()
        start = time.perf_counter()
        with captured() as output, tracing(files if block["traced"] else None):
            try:
                if block["language"] == "python":
                    code = compile(block["code"], block["page"], "exec")
                    exec(code, spaces.setdefault(block["page"], {}))  # noqa: S102 - our own pages
                else:
                    cli.main(block["arguments"], prog_name="recsys")
                status = 0
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 0
            except Exception:
                traceback.print_exc()
                status = 1
        took = round(time.perf_counter() - start, 1)
        about = {"status": status, "seconds": took, "files": sorted(files)}
        found.append({**about, "output": output.getvalue()})
    results.write_text(json.dumps(found), encoding="utf-8")


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    logging.getLogger().handlers.clear()  # a command sets up its own, on what is stderr then
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield output


@contextlib.contextmanager
def tracing(files: set[str] | None) -> Iterator[None]:
    """Collect the files of the package in which a function is called."""

    def called(frame: FrameType, event: str, argument: object) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(PACKAGE) and frame.f_code.co_name != "<module>":
            files.add(f"recsys{name.removeprefix(PACKAGE)}")

    watch = None if files is None else called
    sys.setprofile(watch)
    threading.setprofile(watch)  # a command works in a thread of its own
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
