"""What all sections are made of: the base class and the types of single values."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

# None of these names may look like a number, a date or NaN to a reader that infers the types of
# partition values, nor leave the directory that it is a name in.
COHORT_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"
RUN_ID_PATTERN = r"^[a-z][A-Za-z0-9_.-]{0,127}$"
# Models and interactions are called like their run, with a hash behind it.
STORED_ID_PATTERN = r"^[a-z][A-Za-z0-9_.-]{0,160}$"
# Names of features are `group=value`, and keys of the configuration have dots.
FEATURE_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
# Hadoop would take these characters for a pattern.
ROOT_PATTERN = r"^[^\x00-\x1f*?{}\[\]\\]+$"
# The node exporter reads no other files.
METRICS_PATTERN = r"^[^\x00-\x1f]+\.prom$"

# What messages say of values that must match a pattern.
IN_WORDS = {
    COHORT_PATTERN: "a name of a-z, 0-9, _ and -, beginning with a letter, of at most 64 "
    "characters",
    STORED_ID_PATTERN: "an id of letters, digits, _, . and -, beginning with a small letter, of at "
    "most 161 characters",
    NAME_PATTERN: "a name of a-z, 0-9 and _, beginning with a letter, of at most 64 characters",
    FEATURE_NAME_PATTERN: "a name of letters, digits, _ and -, of at most 64 characters",
    METRICS_PATTERN: "a path without control characters that ends in .prom",
    ROOT_PATTERN: "a path without control characters and * ? { } [ ] \\",
}

# The job sets these options of Spark's readers itself.
_OWN_OPTIONS = (
    "mode",
    "enforceschema",
    "columnnameofcorruptrecord",
    "inferschema",
    "columnpruning",
    "samplingratio",
)
# Without `multiLine`, Spark splits the bytes of these where a byte is that of a line end.
_WIDE_ENCODING = re.compile(r"(?i)utf.?(16|32)|ucs|unicode.?(big|little)")


class ContradictionError(ValueError):
    """What is wrong in a section although each value of it is right on its own.

    Attributes:
        lines: each begins with a key, relative to the section.
    """

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        super().__init__("; ".join(lines))


class Section(BaseModel):
    """A part of the configuration: closed and frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    def contradictions(self) -> Iterator[str]:
        """Say where the values of this section contradict one another, in a line each.

        A line begins with a key, relative to this section.
        """
        yield from ()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if found := list(self.contradictions()):
            raise ContradictionError(found)
        return self


NonEmpty = Annotated[str, Field(min_length=1)]
# A number of things; Spark and NumPy count no further.
PositiveInt = Annotated[int, Field(ge=1, le=2**31 - 1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PartialShare = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _no_home(path: str) -> str:
    """Refuse what a shell would have expanded, and Spark takes for a name."""
    if path == "~" or path.startswith("~/"):
        raise PydanticCustomError("home", "the whole path: ~ is not expanded here")
    return path


# A path or a URI of whatever reads it.
Place = Annotated[NonEmpty, AfterValidator(_no_home)]
FeatureName = Annotated[str, Field(pattern=FEATURE_NAME_PATTERN)]
StoredId = Annotated[str, Field(pattern=STORED_ID_PATTERN)]
IdType = Literal["source", "string", "int", "long"]
Options = dict[str, str | int | float | bool]


class Source(Section):
    """Anything that Spark reads."""

    format: Literal["csv", "parquet", "json", "orc", "text", "table"] = "csv"
    """`csv`, `parquet`, `json`, `orc`, `text`, or `table` for a table of Spark's catalog. `text`
    has one column, `value`, with a line a row, or with the option `wholetext` a file a row; a
    query makes columns of it."""
    path: Place | Annotated[list[Place], Field(min_length=1)] | None = None
    """A path or a list of paths. `*`, `?`, `[ab]` and `{a,b}` are patterns; write a backslash
    before such a character to mean itself. A relative path is resolved by Spark's default file
    system, which locally means the current directory. Folders such as `day=2026-11-24` are columns,
    whose values are text. Other folders below a folder are read only with the option
    `recursiveFileLookup`, and refused without it."""
    table: NonEmpty | None = None
    """The name of the table, if `format` is `table`."""
    options: Options = Field(default={})
    """Options of Spark's reader, such as `header`, `sep`, `quote`, `escape` or `encoding`. For CSV
    `escape` is the quote itself unless it is set, as in RFC 4180: pandas, R and spreadsheets double
    a quote inside of quotes. Set it to a backslash for files that Spark has written. `multiLine`
    reads quoted text over several lines, and JSON documents over several lines."""

    def option(self, name: str) -> str | None:
        """Return an option as text, whatever the case of its name; None where it is not set."""
        found = {key.lower(): value for key, value in self.options.items()}.get(name.lower())
        if found is None:
            return None
        text = str(found)
        return text.lower() if text.lower() in ("true", "false") else text

    @property
    def wide(self) -> bool:
        """Whether the text has two or four bytes for each letter."""
        encoding = self.option("encoding") or self.option("charset") or ""
        return _WIDE_ENCODING.search(encoding) is not None

    @property
    def paths(self) -> list[str]:
        """The paths as a list; empty for a table."""
        if self.path is None:
            return []
        return [self.path] if isinstance(self.path, str) else list(self.path)

    def contradictions(self) -> Iterator[str]:
        """Refuse the options that the job sets itself, and bytes that would be split wrongly."""
        for name in self.options:
            if name.lower() in _OWN_OPTIONS:
                yield f"options.{name}: the job sets this option itself; remove it"
        if self.format == "csv" and self.wide and self.option("multiLine") != "true":
            encoding = self.option("encoding") or self.option("charset")
            yield (
                f"options.encoding: found {encoding}, which Spark reads rightly only in whole "
                "files; set options.multiLine to true as well"
            )

    def missing(self, key: str) -> str | None:
        """Say what is missing to read this; None if nothing is. `key` is its place in the file."""
        if self.format == "table":
            if self.table is None or self.path is not None:
                return (
                    f"{key}.format is table: set {key}.table to the table's name and leave "
                    f"{key}.path unset"
                )
        elif self.path is None or self.table is not None:
            return (
                f"{key}.format is {self.format}: set {key}.path to what is to be read and leave "
                f"{key}.table unset"
            )
        return None


class QueriedSource(Source):
    """A source that a query may be asked of."""

    query: NonEmpty | None = None
    """One SQL query of Spark's over the source, whose name in it is `input`, such as `select
    user_id, item_id, case event when 'buy' then 5.0 else 1.0 end as rating from input`. Its rows
    take the place of the source's own. It can read nothing but the source, and must give the same
    rows each time. null: there is none."""
