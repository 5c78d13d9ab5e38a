"""A configuration in the making: values, comments, and what was not sure."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Draft:
    """What was guessed so far.

    Attributes:
        values: sections of the configuration.
        notes: comments, by key with dots.
        said: what was found, in words, by what it is about.
        unsure: what may be wrong.
        features: tables of features that are proposed, by the keys of the section `features`.
    """

    values: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    unsure: list[str] = field(default_factory=list)
    features: dict[str, Any] = field(default_factory=dict)

    def put(self, key: str, value: Any, note: str = "") -> None:
        """Set a key, with a comment."""
        place = self.values
        *sections, name = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
        if note:
            self.notes[key] = note
