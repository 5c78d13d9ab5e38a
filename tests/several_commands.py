"""Run several commands in one process, and so with one JVM: `python several_commands.py COMMANDS`.

COMMANDS is JSON: lists of arguments. What came of each is printed as JSON: its exit status, what it
has printed and logged, and which files there are below the current directory.
"""

import contextlib
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

from recsys import cli


def main(commands: list[list[str]]) -> list[dict[str, Any]]:
    found = []
    for arguments in commands:
        logging.getLogger().handlers.clear()  # a command sets up its own, on what is stderr then
        out, err = io.StringIO(), io.StringIO()
        status: Any = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main(arguments, prog_name="recsys")
            except SystemExit as ended:
                status = ended.code
        files = sorted(str(path) for path in Path().rglob("*") if path.is_file())
        about = {"status": status, "stdout": out.getvalue(), "stderr": err.getvalue()}
        found.append({**about, "files": files})
    return found


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
