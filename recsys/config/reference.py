"""The commented defaults and the reference page, both made from the typed sections."""

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from recsys.config.keys import Key, walk

_WIDTH = 100
_HEADER = """\
# Every key, with its default. A configuration of your own names only what differs from this;
# `--set section.key=value` overrides a single key on the command line.
# This file is made from recsys/config/sections: `python scripts/generate_docs.py`.
"""


def render_defaults() -> str:
    """Return the content of `conf/base.yaml`: every key with its description and its default."""
    return _HEADER + "".join(_entries(list(walk()), ()))


def _entries(every: list[Key], above: tuple[str, ...]) -> Iterator[str]:
    """Yield the keys directly below a section, each with its comment."""
    for key in every:
        if key.path[:-1] != above:
            continue
        indent = "  " * len(above)
        if not above:
            yield "\n"
        yield _comment(_described(key), indent)
        if key.section is not None and _default(key) is not None:
            yield f"{indent}{key.path[-1]}:\n"
            yield from _entries(every, key.path)
        else:
            if key.section is not None:
                yield _comment(_keys_of(key), indent)
            yield f"{indent}{key.path[-1]}: {_plain(_default(key))}\n"


def render_reference() -> str:
    """Return the reference of the configuration as Markdown, one heading for each section."""
    every = list(walk())
    lines = ["## Top level", "", *_table([k for k in every if len(k.path) == 1 and not k.section])]
    for key in every:
        if key.section is None:
            continue
        lines += ["", f"## {key.name}", "", _described(key), ""]
        if _default(key) is None:
            lines += ["It is not set by default.", ""]
        lines += _table([k for k in every if k.path[:-1] == key.path and k.section is None])
    return "\n".join(lines)


def _table(found: list[Key]) -> list[str]:
    rows = [
        f"| `{key.path[-1]}` | `{_plain(_default(key))}` | {_described(key)} |" for key in found
    ]
    return ["| key | default | |", "|---|---|---|", *rows] if rows else []


def _described(key: Key) -> str:
    """Return the description of a key: its own, or that of the section that stands there."""
    text = key.field.description
    if text is None and key.section is not None:
        text = key.section.__doc__
    return " ".join((text or "").split())


def _keys_of(key: Key) -> str:
    """List the keys of a section that is not set by default."""
    below = [k for k in walk(key.section) if len(k.path) == 1] if key.section else []
    return "Its keys: " + ", ".join(f"{k.path[-1]} ({_plain(_default(k))})" for k in below) + "."


def _default(key: Key) -> Any:
    return key.field.get_default(call_default_factory=True)


def _plain(value: Any) -> str:
    """Return a default as YAML in one line."""
    if isinstance(value, float):
        text = repr(value)
        # YAML 1.1 takes 1e-06 for text.
        return text if "e" not in text or "." in text else text.replace("e", ".0e")
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def _comment(text: str, indent: str) -> str:
    prefix = f"{indent}# "
    lines = textwrap.wrap(text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix)
    return "".join(f"{line}\n" for line in lines)
