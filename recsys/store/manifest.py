"""Manifests: what a run, a model, a version or a set of interactions says about itself, typed.

Every manifest is a `manifest.json` that is written and read through a class below `Manifest`, which
lives beside the thing that it describes. `schema_version` grows when a manifest changes in a way
that an older version of this package would misread.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys.config.configuration import digest
from recsys.errors import one_line

MANIFEST = "manifest.json"
_SEAL = "sha256"


class ManifestError(ValueError):
    """A manifest cannot be used; the text says why, without the manifest's name."""


class OtherVersionError(ManifestError):
    """A manifest was written by another version of this package; only that one may change it."""


class Part(BaseModel):
    """A part of a manifest: typed, frozen and closed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )


class File(Part):
    """One data file of a table."""

    path: str
    """Relative to the table's directory."""
    bytes: int
    """Size."""
    sha256: str
    """Checksum of the content, hexadecimal."""


class WrittenTable(Part):
    """A table as it was written."""

    rows: int
    """Number of rows."""
    files: list[File]
    """All of its data files, in order of their paths."""


class Manifest(Part):
    """Base class of all manifests."""

    SCHEMA_VERSION: ClassVar[int] = 1

    schema_version: int
    """Version of this manifest's schema."""

    def plain(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        return self.model_dump(mode="json")

    def to_json(self) -> bytes:
        """Return the manifest as the content of its file."""
        return json.dumps(self.plain(), indent=2, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read a manifest from the content of its file.

        Raises:
            ManifestError: the content is damaged, or was written by a newer version.
        """
        return cls.from_plain(_parsed(content))

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Read a manifest from JSON values.

        Raises:
            ManifestError: the values are damaged, or were written by a newer version.
        """
        cls._check_version(values)
        try:
            # In JSON mode, so that dates are text, and numbers and text do not pass for each other.
            return cls.model_validate_json(json.dumps(values), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ManifestError(one_line(f"{place}: {first['msg']}")) from error

    @classmethod
    def _check_version(cls, values: Mapping[str, Any]) -> None:
        version = values.get("schema_version")
        if not isinstance(version, int) or version < 1:
            raise ManifestError("it has no schema_version")
        if version != cls.SCHEMA_VERSION:
            raise OtherVersionError(
                f"it has schema_version {version}, and this version of recsys reads "
                f"{cls.SCHEMA_VERSION}; use the version of recsys that wrote it"
            )


class SealedManifest(Manifest):
    """A manifest that carries the SHA-256 of all else that it says."""

    def to_json(self) -> bytes:
        """Return the manifest as the content of its file, sealed."""
        plain = self.plain()
        sealed = {**plain, _SEAL: digest(plain)}
        return json.dumps(sealed, indent=2, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read a manifest from the content of its file, after a look at its seal.

        Raises:
            ManifestError: the content is damaged, or was written by a newer version.
        """
        values = _parsed(content)
        cls._check_version(values)  # a newer version may seal in another way
        seal = values.pop(_SEAL, None)
        if digest(values) != seal:
            raise ManifestError("its content is not what was written (the SHA-256 differs)")
        return cls.from_plain(values)


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content.decode("utf-8"))
    except ValueError as error:
        raise ManifestError("it is not valid JSON") from error
    if not isinstance(values, dict):
        raise ManifestError("it has no keys")
    return values
