"""The configuration: YAML in, typed and frozen models out.

`conf/base.yaml` documents every key once, beside its default; a test holds the two together.
"""

import datetime as dt
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from recsys.errors import ConfigError

POLICIES_BY_TIME = ("last", "first")
POLICIES = (*POLICIES_BY_TIME, "max", "min", "mean", "sum", "count")
RANKING_LOSSES = ("warp", "bpr", "warp-kos")

# Not one of these names may look like a number, a date or NaN to a reader that infers the types
# of partition values, nor leave the directory it is a name in.
COHORT_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"
RUN_ID_PATTERN = r"^[a-z][A-Za-z0-9_.-]{0,127}$"

# What retries of a run may change: it has no effect on results.
WITHOUT_EFFECT = frozenset({"spark", "memory"})

# What the job itself says to Spark's readers.
_OWN_OPTIONS = (
    "mode",
    "enforceschema",
    "columnnameofcorruptrecord",
    "inferschema",
    "columnpruning",
)

_SECRET = re.compile(
    r"(?i)secret|passw|token|credential|(access|account|api).?key|private|(^|[._-])(sas|sig|auth)"
)
# user:password@ in a URI (a name alone is no secret: in abfss:// it is the container), signatures
# in its query, and passwords among Java's options.
_SECRETS_IN_TEXT = (
    (re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]+@"), r"\1@"),
    (re.compile(r"(?i)([?&](?:sig|token|key|password|secret)[^=&\s]*=)[^&\s]+"), r"\1(redacted)"),
    (re.compile(r"(?i)(-D\S*(?:passw|secret|token|key)\S*=)\S+"), r"\1(redacted)"),
)
REDACTED = "(redacted)"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


NonEmpty = Annotated[str, Field(min_length=1)]
PositiveInt = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
IdType = Literal["source", "string", "int", "long"]


class Columns(_Section):
    """Which columns of the input are what."""

    user: NonEmpty = "user_id"
    item: NonEmpty = "item_id"
    rating: NonEmpty | None = None
    timestamp: NonEmpty | None = None


class IdTypes(_Section):
    """The types that ids are converted to."""

    user: IdType = "source"
    item: IdType = "source"


class Source(_Section):
    """Anything that Spark reads."""

    format: Literal["csv", "parquet", "json", "orc", "table"] = "csv"
    path: NonEmpty | Annotated[list[NonEmpty], Field(min_length=1)] | None = None
    table: NonEmpty | None = None
    options: dict[str, str | int | float | bool] = {}

    @property
    def paths(self) -> list[str]:
        """The paths as a list; empty for a table."""
        if self.path is None:
            return []
        return [self.path] if isinstance(self.path, str) else list(self.path)

    def require(self, key: str) -> None:
        """Raise ConfigError unless this says what to read; `key` is its place in the file."""
        if self.format == "table":
            if self.table is None or self.path is not None:
                raise ConfigError(
                    f"{key}.format is table: set {key}.table to the table's name and leave "
                    f"{key}.path unset"
                )
        elif self.path is None or self.table is not None:
            raise ConfigError(
                f"{key}.format is {self.format}: set {key}.path to what is to be read and leave "
                f"{key}.table unset"
            )


class Input(Source):
    """Where the ratings come from."""

    columns: Columns = Columns()
    id_types: IdTypes = IdTypes()
    timestamp_format: NonEmpty = "seconds"


class Validation(_Section):
    """Which rows are rejected, and how many may be."""

    rating_min: Finite | None = None
    rating_max: Finite | None = None
    max_rejected_share: Share = 0.2


class Deduplication(_Section):
    """What becomes of several rows for the same user and item."""

    policy: Literal["last", "first", "max", "min", "mean", "sum", "count"] = "last"


class Filters(_Section):
    """What training looks at."""

    rating_threshold: Finite | None = None
    since: dt.date | None = None
    until: dt.date | None = None
    last_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    min_user_interactions: PositiveInt = 1
    min_item_interactions: PositiveInt = 1

    def window(self, run_date: dt.date) -> tuple[dt.date | None, dt.date | None]:
        """Return the first and the last day (UTC, both included) that training looks at."""
        if self.last_days is None:
            return self.since, self.until
        return run_date - dt.timedelta(days=self.last_days - 1), run_date


class Memory(_Section):
    """What the driver may use."""

    max_share: Annotated[float, Field(gt=0, le=1)] = 0.8


class Training(_Section):
    """LightFM's hyperparameters, under its own names, and how it is run."""

    loss: Literal["warp", "bpr", "warp-kos", "logistic"] = "warp"
    no_components: PositiveInt = 32
    epochs: PositiveInt = 20
    learning_schedule: Literal["adagrad", "adadelta"] = "adagrad"
    learning_rate: PositiveFloat = 0.05
    rho: Annotated[float, Field(gt=0, lt=1)] = 0.95
    epsilon: PositiveFloat = 1e-6
    item_alpha: NonNegativeFloat = 0.0
    user_alpha: NonNegativeFloat = 0.0
    max_sampled: PositiveInt = 10
    k: PositiveInt = 5
    n: PositiveInt = 10
    sample_weights: Literal["none", "rating"] = "none"
    threads: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    max_embedding_norm: PositiveFloat = 100.0


class UserList(Source):
    """Users that are asked for by their ids."""

    column: NonEmpty = "user_id"
    where: NonEmpty | None = None


class ItemList(Source):
    """Items chosen from a table."""

    column: NonEmpty = "item_id"
    where: NonEmpty | None = None


class Cohort(_Section):
    """Who gets recommendations."""

    name: Annotated[str, Field(pattern=COHORT_PATTERN)] = "all"
    users: UserList | None = None
    sample: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42


class Items(_Section):
    """What may be recommended."""

    allow: ItemList | None = None
    deny: ItemList | None = None


class Scoring(_Section):
    """How the lists are made."""

    k: PositiveInt = 10
    exclude_seen: bool = True
    fallback: Literal["popular", "none"] = "popular"
    users_per_file: PositiveInt = 25_000


class Config(_Section):
    """One run's whole configuration."""

    # Hadoop would take these characters for a pattern.
    root: Annotated[str, Field(pattern=r"^[^\x00-\x1f*?{}\[\]\\]+$")] = "output"
    input: Input = Input()
    validation: Validation = Validation()
    deduplication: Deduplication = Deduplication()
    filters: Filters = Filters()
    memory: Memory = Memory()
    training: Training = Training()
    cohort: Cohort = Cohort()
    items: Items = Items()
    scoring: Scoring = Scoring()
    spark: dict[str, str | int | float | bool] = {}

    @model_validator(mode="after")
    def _agree(self) -> "Config":
        for complaint in self._contradictions():
            raise ValueError(complaint)
        return self

    def _contradictions(self) -> Iterable[str]:
        filters = self.filters
        for place, source in self._sources():
            for key in source.options:
                if key.lower() in _OWN_OPTIONS:
                    yield f"{place}.options.{key}: the job sets this option itself; remove it"
        if filters.last_days and (filters.since or filters.until):
            yield (
                "filters.last_days: found together with filters.since or filters.until, expected "
                "one or the other; remove one of them"
            )
        if filters.since and filters.until and filters.since > filters.until:
            yield (
                f"filters.since: found {filters.since}, expected a day not after filters.until "
                f"({filters.until})"
            )
        low, high = self.validation.rating_min, self.validation.rating_max
        if low is not None and high is not None and low > high:
            yield (
                f"validation.rating_min: found {low}, expected at most validation.rating_max "
                f"({high})"
            )
        if self.training.loss == "warp-kos" and self.training.sample_weights != "none":
            yield (
                "training.sample_weights: LightFM's warp-kos takes no sample weights; set it to "
                "none, or choose training.loss warp, bpr or logistic"
            )
        for key in self.spark:
            if not key.startswith("spark."):
                yield f"spark.{key}: expected Spark's own keys, which begin with 'spark.'"

    def _sources(self) -> Iterable[tuple[str, Source]]:
        lists = {
            "cohort.users": self.cohort.users,
            "items.allow": self.items.allow,
            "items.deny": self.items.deny,
        }
        yield "input", self.input
        yield from ((place, source) for place, source in lists.items() if source is not None)

    def require_scoring(self) -> None:
        """Raise ConfigError unless all lists that scoring needs say where they are."""
        for place, source in self._sources():
            if source is not self.input:
                source.require(place)

    def require_input(self) -> None:
        """Raise ConfigError unless the ratings can be read and prepared as configured."""
        self.input.require("input")
        if self.input.columns.timestamp is not None:
            return
        policy, filters = self.deduplication.policy, self.filters
        if policy in POLICIES_BY_TIME:
            others = ", ".join(p for p in POLICIES if p not in POLICIES_BY_TIME)
            raise ConfigError(
                f"deduplication.policy: '{policy}' needs a timestamp, but input.columns.timestamp "
                f"is not set; set it, or choose one of {others}"
            )
        if filters.since or filters.until or filters.last_days:
            raise ConfigError(
                "filters.since, filters.until and filters.last_days need a timestamp, but "
                "input.columns.timestamp is not set; set it, or remove the date window"
            )

    def fingerprint(self, *sections: str) -> str:
        """Return the SHA-256 (hex) of these sections as canonical JSON.

        Without a name: of all that have an effect on results. Secrets are left out, so that a new
        password does not make another configuration.
        """
        public = self.public()
        chosen = sections or [name for name in public if name not in WITHOUT_EFFECT]
        return digest({name: public[name] for name in chosen})

    def public(self) -> dict[str, Any]:
        """Return the configuration as plain JSON values, secrets redacted."""
        plain: dict[str, Any] = redact(self.model_dump(mode="json"))
        return plain


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a value as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def redact(value: Any) -> Any:
    """Replace the values of keys that name secrets, and secrets inside of text."""
    if isinstance(value, Mapping):
        return {
            key: REDACTED if _SECRET.search(str(key)) else redact(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [redact(inner) for inner in value]
    if isinstance(value, str):
        for pattern, replacement in _SECRETS_IN_TEXT:
            value = pattern.sub(replacement, value)
    return value


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
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error


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


def _parse(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with a stricter map


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        values = _parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
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
    value = _value(key, text, free=tuple(parts[:-1]) in _FREE)
    for part in parts[:-1]:
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: '{part}' is a single value, not a section")
    place[parts[-1]] = value


# Mappings whose keys are somebody else's, dots included.
_FREE = {
    ("spark",),
    ("input", "options"),
    ("cohort", "users", "options"),
    ("items", "allow", "options"),
    ("items", "deny", "options"),
}


def _split(key: str) -> list[str]:
    """Split a dotted key; Spark's own keys may be written with or without the section's name."""
    if key.startswith("spark."):
        return ["spark", key if not key.startswith("spark.spark.") else key[len("spark.") :]]
    for free in _FREE:
        if key.startswith(".".join(free) + "."):
            return [*free, key[len(".".join(free)) + 1 :]]
    return key.split(".")


def _value(key: str, text: str, *, free: bool) -> Any:
    """Read an override's value as YAML; in a free mapping, text that is no scalar stays text.

    A separator of |, :: or # and a null value of NULL mean something else, or nothing, to YAML.
    """
    try:
        value = _parse(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if free:
            return text
        raise ConfigError(f"--set {key}: the value is not valid YAML") from error
    quoted = text.strip()[:1] in ("'", '"')
    return value if not free or quoted or isinstance(value, bool | int | float) else text


def _known_keys(model: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        keys.append(prefix + name)
        kind = next(iter(get_args(kind)), kind) if type(None) in get_args(kind) else kind
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += _known_keys(kind, f"{prefix}{name}.")
    return keys


def _nearest(key: str) -> str:
    known = _known_keys()
    section, _, name = key.rpartition(".")
    beside = [k for k in known if k.rpartition(".")[0] == section]
    found = difflib.get_close_matches(key, beside, n=1, cutoff=0.5)
    if not found:  # the right name in the wrong section, or no section at all
        found = [k for k in known if k.rpartition(".")[2] == name][:1]
    return (found or difflib.get_close_matches(key, known, n=1, cutoff=0.0))[0]


def _found(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


_EXPECTED = {
    "root": "a path without control characters and * ? { } [ ] \\",
    "cohort.name": "a name of a-z, 0-9, _ and -, beginning with a letter, of at most 64 characters",
    "model_type": "a section with keys",
    "dict_type": "a section with keys",
    "date_type": "a day such as 2026-11-24",
    "string_too_short": "text that is not empty",
}


def _explain(error: ValidationError) -> str:
    """Say in one line what is wrong: each key, what was found and what was expected."""
    complaints: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        # Where a value may have one of several types, pydantic adds the type tried to the place.
        known = set(_known_keys())
        parts = [str(part) for part in item["loc"]]
        key = ".".join(parts)
        free = next((free for free in _FREE if tuple(parts[: len(free)]) == free), ())
        inside_free = len(parts) > len(free) > 0
        if inside_free:
            parts = parts[: len(free) + 1]
            key = ".".join(parts)
        while not inside_free and item["type"] != "extra_forbidden" and parts and key not in known:
            parts.pop()
            key = ".".join(parts)
        if item["type"] == "extra_forbidden":
            complaints[key] = [f"{key}: unknown key; did you mean {_nearest(key)}?"]
        elif item["type"] == "value_error":
            complaints[str(item["ctx"]["error"])] = [str(item["ctx"]["error"])]
        else:
            expected = _EXPECTED.get(item["type"]) or _EXPECTED.get(key)
            expected = expected or item["msg"].removeprefix("Input should be ")
            if key not in complaints:
                shown = REDACTED if _SECRET.search(key) else _found(item["input"])
                complaints[key] = [f"{key}: found {shown}, expected {expected}"]
            elif not complaints[key][-1].endswith(expected):
                complaints[key].append(expected)
    return "; ".join(" or ".join(alternatives) for alternatives in complaints.values())
