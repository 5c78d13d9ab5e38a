"""Reading a configuration: YAML and overrides in, a checked `Config` or one clear line out."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from recsys.config import keys
from recsys.config.configuration import Config
from recsys.config.redaction import REDACTED, names_secret, redact
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


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-6 as a number (YAML 1.2) and refuses repeated keys."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


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
    value = _value(key, text, free=tuple(parts[:-1]) in keys.free_form())
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
    for free in keys.free_form():
        if key.startswith(".".join(free) + "."):
            return [*free, key[len(".".join(free)) + 1 :]]
    return key.split(".")


def _value(key: str, text: str, *, free: bool) -> Any:
    """Read an override's value as YAML; in a free mapping, text that is no scalar stays text.

    A separator of |, :: or # and a null value of NULL mean something else, or nothing, to YAML.
    """
    try:
        value = _parse(text)
    except _NOT_YAML as error:
        if free:
            return text
        raise ConfigError(f"--set {key}: the value is not valid YAML") from error
    quoted = text.strip()[:1] in ("'", '"')
    return value if not free or quoted or isinstance(value, bool | int | float) else text


def _nearest(key: str) -> str:
    known = keys.known()
    key = key[:100]
    section, _, name = key.rpartition(".")
    beside = [k for k in known if k.rpartition(".")[0] == section]
    found = difflib.get_close_matches(key, beside, n=1, cutoff=0.6)
    if not found:  # the right name in the wrong section, or no section at all
        found = [k for k in known if k.rpartition(".")[2] == name][:1]
    return (found or difflib.get_close_matches(key, known, n=1, cutoff=0.0))[0]


def _found(value: Any) -> str:
    if isinstance(value, list | tuple | set | dict):
        inner = value.values() if isinstance(value, dict) else value
        # A few lines of YAML can be a billion values, which share their parts.
        if len(value) > 6 or any(isinstance(one, list | tuple | set | dict) for one in inner):
            return f"{len(value)} values ({type(value).__name__})"
    text = repr(redact(value))
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


_EXPECTED = {
    "root": "a path without control characters and * ? { } [ ] \\",
    "cohort.name": "a name of a-z, 0-9, _ and -, beginning with a letter, of at most 64 characters",
    "model_type": "a section with keys",
    "dict_type": "a section with keys",
    "date_type": "a day such as 2026-11-24",
    "string_too_short": "text that is not empty",
}


_MOST_COMPLAINTS = 10


def _explain(error: ValidationError) -> str:
    """Say in one line what is wrong: each key, what was found and what was expected."""
    complaints: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        # Where a value may have one of several types, pydantic adds the type tried to the place.
        known = set(keys.known())
        parts = [str(part) for part in item["loc"]]
        key = ".".join(parts)
        free = next((free for free in keys.free_form() if tuple(parts[: len(free)]) == free), ())
        inside_free = len(parts) > len(free) > 0
        if inside_free:
            parts = parts[: len(free) + 1]
            key = ".".join(parts)
        while not inside_free and item["type"] != "extra_forbidden" and parts and key not in known:
            parts.pop()
            key = ".".join(parts)
        if item["type"] == "extra_forbidden":
            complaints[key] = [f"{key[:100]}: unknown key; did you mean {_nearest(key)}?"]
        elif item["type"] == "value_error":
            complaints[str(item["ctx"]["error"])] = [str(item["ctx"]["error"])]
        else:
            expected = _EXPECTED.get(item["type"]) or _EXPECTED.get(key)
            expected = expected or item["msg"].removeprefix("Input should be ")
            if key not in complaints:
                shown = REDACTED if names_secret(key) else _found(item["input"])
                complaints[key] = [f"{key}: found {shown}, expected {expected}"]
            elif not complaints[key][-1].endswith(expected):
                complaints[key].append(expected)
        if len(complaints) > _MOST_COMPLAINTS:
            complaints.popitem()
            return _joined(complaints) + "; and more"
    return _joined(complaints)


def _joined(complaints: Mapping[str, list[str]]) -> str:
    return "; ".join(" or ".join(alternatives) for alternatives in complaints.values())
