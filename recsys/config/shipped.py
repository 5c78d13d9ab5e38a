"""The configurations that this package ships: the commented defaults, and one for each data set."""

import difflib
import json
from importlib.resources import files

import yaml

from recsys.errors import ConfigError

DEFAULTS = "base"


def names() -> list[str]:
    """Return their names, the defaults first."""
    found = sorted(path.name for path in files("recsys").joinpath("conf").iterdir())
    stems = [name.removesuffix(".yaml") for name in found if name.endswith(".yaml")]
    return [DEFAULTS, *(name for name in stems if name != DEFAULTS)]


def read(name: str) -> str:
    """Return one of them as text.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"config: found {name[:80]!r}, expected one of {', '.join(names())}{hint}"
        )
    return files("recsys").joinpath("conf", f"{name}.yaml").read_text(encoding="utf-8")


def as_json(name: str | None) -> str:
    """Return one of them as JSON, without its comments; None: the names of all.

    Raises:
        ConfigError: there is none of this name.
    """
    found = names() if name is None else yaml.safe_load(read(name))
    return json.dumps(found, indent=2, default=str)
