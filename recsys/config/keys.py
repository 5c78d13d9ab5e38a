"""All keys of the configuration, found in the typed sections."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recsys.config.configuration import Config


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        path: its parts, such as `("input", "columns", "user")`.
        field: what its section says of it.
        section: the section that stands there; None for single values and mappings.
        is_mapping: whether it has keys of somebody else's, such as Spark's options.
    """

    path: tuple[str, ...]
    field: FieldInfo
    section: type[BaseModel] | None
    is_mapping: bool

    @property
    def name(self) -> str:
        """The key with dots."""
        return ".".join(self.path)


def walk(model: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> Iterator[Key]:
    """Yield all keys of a section in order, each section before its own keys."""
    for name, field in model.model_fields.items():
        key = _key((*path, name), field)
        yield key
        if key.section is not None:
            yield from walk(key.section, key.path)


@cache
def known() -> list[str]:
    """Return all keys with dots."""
    return [key.name for key in walk()]


@cache
def free_form() -> list[tuple[str, ...]]:
    """Return the mappings whose keys are somebody else's, dots included."""
    return [key.path for key in walk() if key.is_mapping]


def _key(path: tuple[str, ...], field: FieldInfo) -> Key:
    kinds = [get_origin(kind) or kind for kind in _alternatives(field.annotation)]
    kinds = [kind for kind in kinds if isinstance(kind, type)]
    section = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
    return Key(path, field, section, any(issubclass(kind, Mapping) for kind in kinds))


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield the types that a value may have: the members of a union, or the type itself."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one)
    else:
        yield annotation
