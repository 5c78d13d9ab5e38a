"""The commented defaults and the reference page, both made from the typed sections."""

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import yaml
from pydantic import TypeAdapter

from recsys.config.keys import Key, walk
from recsys.config.sections import Section, Source

_WIDTH = 100
_HEADER = """\
# Every key, with its default. A configuration of your own names only what differs from this;
# `--set section.key=value` overrides a single key on the command line.
# This file is made from recsys/config/sections: `python scripts/generate_docs.py`.
"""

# Bounds that are only there because of the types of NumPy, Spark and Java.
_LARGE = 2**31 - 1


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
        yield "\n".join([*_comment(_described(key), indent), ""])
        if isinstance(_default(key), Section):
            yield f"{indent}{key.path[-1]}:\n"
            yield from _entries(every, key.path)
        else:
            yield "".join(f"{line}\n" for line in _keys_of(key, indent))
            yield f"{indent}{key.path[-1]}: {_plain(_default(key))}\n"


def _keys_of(key: Key, indent: str) -> list[str]:
    """Return comments about the keys of a section that is not set by default."""
    if key.section is None:
        return []
    first = next(other for other in walk() if other.section is key.section)
    if key.is_named and key.path[:-1] == first.path[:-1] and key.name != first.name:
        return [f"{indent}# The keys below each name: as in `{first.path[-1]}`."]
    own = [below for below in walk(key.section) if len(below.path) == 1]
    whose = "The keys below each name" if key.is_named else "Its keys"
    lines = [f"{indent}# {whose}, with their defaults:"]
    if issubclass(key.section, Source):
        shared = [below.name for below in own if below.name in Source.model_fields]
        lines.append(f"{indent}#   {', '.join(shared)}: as in `input`.")
        own = [below for below in own if below.name not in shared]
    for below in own:
        text = f"{below.name} ({_plain(_default(below))}): {' '.join(_described(below))}"
        lines += _comment([text], indent, hanging=True)
        inner = _keys_of(below, f"{indent}#  ") if below.section is not None else []
        lines += [line.replace("#  #", "#   ", 1) for line in inner]
    return lines


def render_reference() -> str:
    """Return the reference of the configuration as Markdown, one heading for each section."""
    every = list(walk())
    lines = ["## Top level", "", *_table([k for k in every if len(k.path) == 1 and not k.section])]
    for key in every:
        if key.section is None:
            continue
        heading = ".".join(key.inside)
        lines += ["", f"## {heading}", "", "\n\n".join(_described(key)), ""]
        if key.is_named:
            lines += ["A mapping: its keys are names that you choose. It is empty by default.", ""]
        elif _default(key) is None:
            lines += ["It is not set by default.", ""]
        lines += _table([k for k in every if k.path[:-1] == key.inside and k.section is None])
    return "\n".join(lines)


def _table(found: list[Key]) -> list[str]:
    rows = [
        [f"`{key.path[-1]}`", _type(key), f"`{_plain(_default(key))}`", " ".join(_described(key))]
        for key in found
    ]
    lines = [["key", "type", "default", "description"], ["---"] * 4, *rows] if rows else []
    return [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    ]


def _type(key: Key) -> str:
    """Say in words which values a key may have."""
    kind: Any = Annotated[key.field.annotation, key.field]
    return _kind(TypeAdapter(kind).json_schema())


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in words what a JSON schema admits."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        *most, last = (f"`{value}`" for value in schema["enum"])
        return f"{', '.join(most)} or {last}"
    kind = schema["type"]
    if kind == "array":
        return f"list of {_kind(schema['items'])}"
    if schema.get("format") == "date":
        return "day"
    names = {"string": "text", "object": "mapping", "boolean": "true or false"}
    return " ".join([names.get(kind, kind), *_bounds(schema)])


def _bounds(schema: Mapping[str, Any]) -> list[str]:
    """Return the bounds of a number, as a list of at most one text."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [
        f"{sign} {schema[name]:g}"
        for name, sign in signs.items()
        if name in schema and schema[name] < _LARGE
    ]
    return [" and ".join(found)] if found else []


def _described(key: Key) -> list[str]:
    """Return the paragraphs about a key: its own, or those of the section that stands there."""
    text = key.field.description
    if text is None and key.section is not None:
        text = key.section.__doc__
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text or "")]


def _default(key: Key) -> Any:
    return key.field.get_default(call_default_factory=True)


def _plain(value: Any) -> str:
    """Return a default as YAML in one line."""
    if isinstance(value, float):
        # YAML 1.1 takes 1e-06 for text.
        return re.sub(r"^(-?\d+)(\.\d+)?e-0?(\d+)$", _with_point, repr(value))
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip()
    return text.removesuffix("...").strip()


def _with_point(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2] or '.0'}e-{match[3]}"


def _comment(paragraphs: list[str], indent: str, *, hanging: bool = False) -> list[str]:
    """Return lines of a comment, paragraphs with an empty one between them."""
    lines: list[str] = []
    for text in paragraphs:
        if lines:
            lines.append(f"{indent}#")
        # What stands in backticks stays on one line.
        whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), text)
        wrapped = textwrap.wrap(
            whole,
            _WIDTH,
            initial_indent=f"{indent}#{'   ' if hanging else ' '}",
            subsequent_indent=f"{indent}#{'     ' if hanging else ' '}",
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [line.replace("\0", " ") for line in wrapped]
    return lines
