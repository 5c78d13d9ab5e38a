"""All keys of the configuration, found in the typed sections.

Some sections stand in a mapping under names that the user chooses. In a key `NAME` stands for
such a name: `features.items.NAME.path`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recsys.config.configuration import Config

CHOSEN_NAME = "NAME"


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        path: its parts, such as `("input", "columns", "user")`.
        field: what its section says of it.
        section: the section that stands there, or below each name of a mapping; None for single
            values and other mappings.
        is_mapping: whether it has keys of somebody else's, such as Spark's options.
        is_named: whether it is a mapping of names to sections.
    """

    path: tuple[str, ...]
    field: FieldInfo
    section: type[BaseModel] | None
    is_mapping: bool
    is_named: bool = False

    @property
    def inside(self) -> tuple[str, ...]:
        """The path of what is below."""
        return (*self.path, CHOSEN_NAME) if self.is_named else self.path

    @property
    def name(self) -> str:
        """The key with dots."""
        return ".".join(self.path)


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a stored configuration with its key with dots."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def walk(model: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> Iterator[Key]:
    """Yield all keys of a section in order, each section before its own keys."""
    for name, field in model.model_fields.items():
        key = _key((*path, name), field)
        yield key
        if key.section is not None:
            yield from walk(key.section, key.inside)


@cache
def known() -> list[str]:
    """Return all keys with dots."""
    return [".".join(path) for key in walk() for path in dict.fromkeys((key.path, key.inside))]


def general(parts: Sequence[str]) -> tuple[str, ...]:
    """Return a key with `NAME` in place of each name that the user has chosen."""
    found: tuple[str, ...] = ()
    for part in parts:
        found = (*found, CHOSEN_NAME if found in _named() else part)
    return found


@cache
def _named() -> set[tuple[str, ...]]:
    return {key.path for key in walk() if key.is_named}


@cache
def free_form() -> list[tuple[str, ...]]:
    """Return the mappings whose keys are somebody else's, dots included."""
    return [key.path for key in walk() if key.is_mapping]


def _key(path: tuple[str, ...], field: FieldInfo) -> Key:
    for kind in _alternatives(field.annotation):
        origin = get_origin(kind)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            inside = [_section(one) for one in _alternatives(get_args(kind)[1])]
            section = next((one for one in inside if one is not None), None)
            return Key(path, field, section, section is None, section is not None)
    found = [_section(kind) for kind in _alternatives(field.annotation)]
    return Key(path, field, next((one for one in found if one is not None), None), False)


def _section(kind: Any) -> type[BaseModel] | None:
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield the types that a value may have: the members of a union, or the type itself."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one)
    else:
        yield annotation
