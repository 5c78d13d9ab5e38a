"""Writing a configuration: a YAML file that says the same as one that was read."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import yaml

from recsys.config.configuration import Config
from recsys.config.reading import FLOAT, FLOAT_BEGINS
from recsys.config.redaction import names_secret, redact

_WIDTH = 100
_LINE_BREAKS = ("\x85", "\u2028", "\u2029")  # which a reader of YAML takes for a space


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes what the reader would take for a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list(FLOAT_BEGINS))


def render(config: Config, about: Sequence[str], notes: Mapping[str, str]) -> str:
    """Return a configuration as YAML: what was set, with comments, and without secrets.

    Args:
        config: the configuration; keys that were not set are left out.
        about: lines for the top.
        notes: comments, by key with dots.

    Returns:
        The file's content. A key whose value is a secret, or has one in it, is left out, and named
        at the top.
    """
    secrets: list[str] = []
    values = _without_secrets(config.model_dump(exclude_unset=True), "", secrets)
    lines = [f"# {line}".rstrip() for line in about]
    if secrets:
        lines.append(f"# Left out, because they are secrets: {', '.join(secrets)}.")
    return "\n".join([*lines, *_lines(values, "", 0, notes), ""])


def _without_secrets(values: Mapping[str, Any], above: str, secrets: list[str]) -> dict[str, Any]:
    kept = {}
    for name, value in values.items():
        key = f"{above}{name}"
        if isinstance(value, Mapping):
            kept[name] = _without_secrets(value, f"{key}.", secrets)
        elif names_secret(str(name)) or redact(value) != value:
            secrets.append(key)
        else:
            kept[name] = value
    return kept


def _lines(
    values: Mapping[str, Any], above: str, depth: int, notes: Mapping[str, str]
) -> list[str]:
    """Return the lines of a mapping, each key on a line of its own."""
    indent = "  " * depth
    lines = []
    for name, value in values.items():
        key = f"{above}{name}"
        if key in notes:
            lines += [f"{indent}# {line}" for line in wrap(notes[key], _WIDTH - len(indent) - 2)]
        if isinstance(value, Mapping) and value:
            lines.append(f"{indent}{_plain(name)}:")
            lines += _lines(value, f"{key}.", depth + 1, notes)
        elif isinstance(value, str) and _fits_block(value):
            lines.append(f"{indent}{_plain(name)}: |-")
            lines += [f"{indent}  {line}" for line in value.split("\n")]
        else:
            lines.append(f"{indent}{_plain(name)}: {_plain(value)}")
    return lines


def _fits_block(value: str) -> bool:
    """Whether text has several lines that can stand as they are, such as a query."""
    lines = value.split("\n")
    return (
        len(lines) > 1
        and all(
            line.isprintable() and line.strip() == line.rstrip() != ""
            for line in (lines[0], lines[-1])
        )
        and all(line.isprintable() for line in lines)
    )


def _plain(value: Any) -> str:
    """Return a value as YAML in one line."""

    def dumped(*, readable: bool) -> str:
        return yaml.dump(
            value, Dumper=_Dumper, default_flow_style=True, width=2**31, allow_unicode=readable
        )

    text = dumped(readable=True)
    if any(one in text for one in _LINE_BREAKS):
        text = dumped(readable=False)
    return text.removesuffix("...\n").removesuffix("\n")  # strip would take other spaces as well
