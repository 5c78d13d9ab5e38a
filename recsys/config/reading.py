"""Reading a configuration: YAML and overrides in, a checked `Config` or one clear line out."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from recsys.config import keys
from recsys.config.configuration import Config
from recsys.config.redaction import REDACTED, names_secret, redact
from recsys.config.sections import COHORT_PATTERN, IN_WORDS, ContradictionError
from recsys.errors import ConfigError


def load_config(path: str | None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file, apply `a.b=value` overrides and validate the result.

    Values that neither names have the defaults that `conf/base.yaml` shows.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or has an unknown key or a wrong value.
    """
    values = _read_yaml(path) if path is not None else {}
    for override in overrides:
        _apply(values, override)
    try:
        config = Config.model_validate(values)
        config.fingerprint()
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    except UnicodeEncodeError as error:
        raise ConfigError(
            "spark, options or publishing.iceberg.properties: found a key or a value that is no "
            "Unicode text; write it in UTF-8"
        ) from error
    return config


def stored_config(plain: Mapping[str, Any], owner: str) -> Config:
    """Return the configuration that a manifest has, with its secrets redacted.

    Args:
        plain: the manifest's `configuration`.
        owner: whose it is, for the message.

    Raises:
        ConfigError: it has a key or a value that this version does not know.
    """
    try:
        return Config.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        raise ConfigError(
            f"{owner} is of another version of recsys: {_explain(error)}; use that version"
        ) from error


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-6 as a number (YAML 1.2) and refuses repeated keys."""


# What YAML 1.2 takes for a number with an exponent, and how it may begin.
FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")
FLOAT_BEGINS = "-+.0123456789"
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list(FLOAT_BEGINS))


def _mapping_without_repeats(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if isinstance(key, str) and keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{key}' stands there twice", node.start_mark
            )
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_repeats)


def _int_of_64_bits(loader: _Loader, node: yaml.ScalarNode) -> int:
    value = loader.construct_yaml_int(node)
    if not -(2**63) <= value < 2**63:
        raise yaml.constructor.ConstructorError(
            None, None, "the number is too large", node.start_mark
        )
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _int_of_64_bits)

# Beside its own errors, what the constructors of `!!bool x` or `!!timestamp x` stumble over.
_NOT_YAML = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    RecursionError,
)


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with a stricter map


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        values = _parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except _NOT_YAML as error:
        raise ConfigError(f"{path} is not valid YAML: {_yaml_reason(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections with keys, found {_found(values)}")
    return values


def _yaml_reason(error: Exception) -> str:
    """Say what is wrong and where, without the line itself: it may hold a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return type(error).__name__


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {key}: expected key=value, such as training.epochs=5")
    place: Any = values
    parts = _split(key)
    value = _value(key, text, free=keys.general(parts[:-1]) in keys.free_form())
    for part in parts[:-1]:
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: '{part}' is a single value, not a section")
    place[parts[-1]] = value


def _split(key: str) -> list[str]:
    """Split a dotted key; Spark's own keys may be written with or without the section's name."""
    if key.startswith("spark."):
        return ["spark", key if not key.startswith("spark.spark.") else key[len("spark.") :]]
    parts = key.split(".")
    for n in range(1, len(parts)):
        if keys.general(parts[:n]) in keys.free_form():
            return [*parts[:n], ".".join(parts[n:])]
    return parts


def _value(key: str, text: str, *, free: bool) -> Any:
    """Read an override's value as YAML; in a free mapping it stays the text that was written.

    Spark's options are text. A separator of |, :: or # and a null value of NULL, 007 or 12:30 mean
    something else, or nothing, to YAML. Only what is written just like the value that YAML reads,
    such as true or 4, becomes that value.
    """
    try:
        value = _parse(text)
    except _NOT_YAML as error:
        if free:
            return text
        raise ConfigError(f"--set {key}: the value is not valid YAML") from error
    quoted = text.strip()[:1] in ("'", '"')
    same = isinstance(value, bool | int | float) and text.strip() in (
        str(value),
        str(value).lower(),
    )
    return value if not free or quoted or same else text


def _nearest(given: str) -> str:
    known = keys.known()
    parts = given[:100].split(".")
    key = ".".join(keys.general(parts))
    section, _, name = key.rpartition(".")
    beside = [k for k in known if k.rpartition(".")[0] == section]
    found = difflib.get_close_matches(key, beside, n=1, cutoff=0.6)
    if not found:  # the right name in the wrong section, or no section at all
        found = [k for k in known if k.rpartition(".")[2] == name][:1]
    nearest = (found or difflib.get_close_matches(key, known, n=1, cutoff=0.0))[0].split(".")
    names = dict(enumerate(parts))  # those that the user has chosen stay
    return ".".join(names.get(n, p) if p == keys.CHOSEN_NAME else p for n, p in enumerate(nearest))


def _found(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple | set | dict):
        inner = value.values() if isinstance(value, dict) else value
        # A few lines of YAML can be a billion values, which share their parts.
        if len(value) > 6 or any(isinstance(one, list | tuple | set | dict) for one in inner):
            return f"{len(value)} values ({type(value).__name__})"
    text = repr(redact(value))
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


_EXPECTED = {
    "model_type": "a section with keys",
    "dict_type": "a section with keys",
    "date_type": "a day such as 2026-11-24",
    "string_too_short": "text that is not empty",
    "too_short": "a list that is not empty",
}

_MOST_COMPLAINTS = 10


def _explain(error: ValidationError) -> str:
    """Say in one line what is wrong: each key, what was found and what was expected."""
    complaints: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        key = _key(item)
        if item["type"] == "extra_forbidden":
            complaints[key] = [f"{key[:100]}: unknown key; did you mean {_nearest(key)}?"]
        elif item["type"] == "value_error":
            contradiction: ContradictionError = item["ctx"]["error"]
            lines = [f"{key}.{line}" if key else line for line in contradiction.lines]
            complaints.update({line: [line] for line in lines})
        elif key not in complaints:
            # A group of features may be called `authors`.
            named = key.rpartition(".")[2] if ".groups." in key else key
            shown = REDACTED if names_secret(named) else _found(item["input"])
            complaints[key] = [f"{key}: found {shown}, expected {_expected(key, item)}"]
        elif not complaints[key][-1].endswith(_expected(key, item)):
            complaints[key].append(_expected(key, item))
        if len(complaints) > _MOST_COMPLAINTS:  # the nearest of thousands of keys takes long
            break
    shown_lines = [" or ".join(alternatives) for alternatives in complaints.values()]
    more = ["and more"] if len(shown_lines) > _MOST_COMPLAINTS else []
    return "; ".join(shown_lines[:_MOST_COMPLAINTS] + more)


def _key(item: ErrorDetails) -> str:
    """Return the key that an error is about, with dots.

    Where a value may have one of several types, pydantic adds the type that it tried to the place.
    """
    parts = tuple(str(part) for part in item["loc"])
    for n in range(1, len(parts)):
        if keys.general(parts[:n]) in keys.free_form():
            return ".".join(parts[: n + 1])
    known = keys.known()
    while (
        item["type"] != "extra_forbidden" and parts and ".".join(keys.general(parts)) not in known
    ):
        parts = parts[:-1]
    return ".".join(parts)


def _expected(key: str, item: ErrorDetails) -> str:
    """Say what a value should be, in the words of its type, its pattern or pydantic."""
    pattern = item.get("ctx", {}).get("pattern", "")
    if key == "cohort.name":  # also where YAML read it as a number
        pattern = COHORT_PATTERN
    length = item.get("ctx", {}).get("min_length") or item.get("ctx", {}).get("max_length") or 0
    if item["type"] in ("too_short", "too_long") and length > 1:
        return f"a list of {length} values"
    words = IN_WORDS.get(pattern) or _EXPECTED.get(item["type"])
    return words or item["msg"].removeprefix("Input should be ")
