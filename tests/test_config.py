import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel, Field

from recsys.cli import main
from recsys.config.configuration import Config
from recsys.config.keys import free_form, walk
from recsys.config.reading import load_config
from recsys.config.reference import render_defaults, render_reference
from recsys.config.requirements import for_evaluation, for_scoring, for_similar, for_training
from recsys.config.sections import Section, Source
from recsys.config.stored_ids import check_stored_id
from recsys.errors import ConfigError
from tests.conftest import ROOT

CONFS = sorted((ROOT / "conf").glob("*.yaml"))
REFERENCE = render_reference()


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        usable(load_config(None, ["input.path=x", "deduplication.policy=max", *overrides]))
    message = str(caught.value)
    assert "\n" not in message
    return message


def usable(config: Config) -> None:
    """Refuse what `recsys train` refuses."""
    if found := list(for_training(config)):
        raise ConfigError("; ".join(found))


def test_base_yaml_documents_every_key_with_its_default() -> None:
    def defaults(model: type[BaseModel]) -> dict[str, Any]:
        return {name: plain(field.default) for name, field in model.model_fields.items()}

    def plain(value: Any) -> Any:
        return defaults(type(value)) if isinstance(value, BaseModel) else value

    path = ROOT / "conf" / "base.yaml"
    assert load_config(str(path)) == Config()  # and so without repeated keys
    assert yaml.safe_load(path.read_text()) == defaults(Config)  # also to plain YAML 1.1


def test_base_yaml_is_made_from_the_sections() -> None:
    assert (ROOT / "conf/base.yaml").read_text() == render_defaults()
    assert max(map(len, render_defaults().splitlines())) <= 100


def comment_above(key: str) -> str:
    """Return the comment above a key of base.yaml, such as `  users: null`, as one line."""
    lines = render_defaults().splitlines()
    place = above = lines.index(key)
    while lines[above - 1].lstrip().startswith("#"):
        above -= 1
    return " ".join(line.strip().removeprefix("#").strip() for line in lines[above:place])


@pytest.mark.parametrize(
    "name",
    [key.name for key in walk() if key.section and key.field.get_default() is None],
)
def test_the_comment_of_a_section_that_is_not_set_lists_its_keys(name: str) -> None:
    (found,) = (key for key in walk() if key.name == name)
    assert found.section is not None
    comment = comment_above(f"{'  ' * (len(found.path) - 1)}{found.path[-1]}: null")
    _, listed = comment.split("Its keys, with their defaults: ")
    shared = "format, path, table, options: as in `input`." in listed
    for key, field in found.section.model_fields.items():
        if shared and key in Source.model_fields:
            continue
        assert f"{key} (" in listed
        assert " ".join((field.description or "").split()) in listed
    assert shared == issubclass(found.section, Source)


def test_base_yaml_keeps_paragraphs_and_what_stands_in_backticks() -> None:
    text = render_defaults()
    assert "all scores are finite.\n#\n# The limits leave room" in text
    assert "`yyyy-MM-dd HH:mm:ss`" in text
    assert [line for line in text.splitlines() if line.count("`") % 2] == []
    assert "  epsilon: 1.0e-6\n" in text


def reference_row(heading: str, key: str) -> list[str]:
    """Return the cells of a key's row: type, default and description."""
    part = REFERENCE.split(f"## {heading}\n")[1].split("\n## ")[0]
    (row,) = (line for line in part.splitlines() if line.startswith(f"| `{key}` |"))
    cells = row.strip("|").split(" | ")
    assert len(cells) == 4
    return [cell.strip() for cell in cells[1:]]


@pytest.mark.parametrize(
    ("heading", "key", "kind", "default"),
    [
        ("Top level", "root", "text", "`output`"),
        ("Top level", "spark", "mapping", "`{}`"),
        ("input", "path", "text or list of text or null", "`null`"),
        ("items.deny", "options", "mapping", "`{}`"),
        ("filters", "since", "day or null", "`null`"),
        ("training", "loss", "`warp`, `bpr`, `warp-kos` or `logistic`", "`warp`"),
        ("training", "epochs", "integer ≥ 1", "`80`"),
        ("training", "ema_decay", "number ≥ 0 and < 1", "`0.95`"),
        ("training", "epsilon", "number > 0", "`1.0e-6`"),
        ("training.early_stopping", "refit", "true or false", "`true`"),
        ("evaluation", "k", "list of integer ≥ 1", "`[10]`"),
        ("gates", "min_overlap", "number ≥ 0 and ≤ 1 or null", "`0.05`"),
    ],
)
def test_the_reference_has_type_and_default_of_a_key(
    heading: str, key: str, kind: str, default: str
) -> None:
    assert reference_row(heading, key)[:2] == [kind, default]


def test_the_reference_has_a_heading_for_each_section_and_a_row_for_each_key() -> None:
    lines = REFERENCE.splitlines()
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert headings == ["Top level", *(".".join(key.inside) for key in walk() if key.section)]
    for key in walk():
        if key.section is None:
            heading = ".".join(key.path[:-1]) or "Top level"
            text = " ".join((key.field.description or "").split())
            assert reference_row(heading, key.path[-1])[2] == text
    heads = [n for n, line in enumerate(lines) if line.startswith("| key |")]
    assert all(lines[n + 2].startswith("| `") for n in heads)  # no table is empty


def test_every_key_has_a_description() -> None:
    silent = [
        key.name
        for key in walk()
        if not key.field.description and (key.section is None or not key.section.__doc__)
    ]
    assert silent == []


FREE = [
    "input.options",
    "features.items.NAME.options",
    "features.users.NAME.options",
    "cohort.users.options",
    "items.allow.options",
    "items.deny.options",
    "items.candidates.options",
    "items.titles.options",
    "similar.items.options",
    "similar.users.options",
    "evaluation.segment.options",
    "publishing.iceberg.properties",
    "spark",
]


def test_the_mappings_with_keys_of_somebody_else_are_found_in_the_sections() -> None:
    assert sorted(".".join(path) for path in free_form()) == sorted(FREE)


def test_a_new_section_is_walked_whatever_its_type_looks_like() -> None:
    class Wishes(Source):
        hints: Mapping[str, str] = Field(default={})

    class Future(Section):
        wishes: Wishes | None = None
        text_or_wishes: str | Wishes = ""
        annotated: Annotated[Wishes | None, Field(description="Wishes.")] = None
        inside: Annotated[Wishes, "inside a union"] | None = None
        labels: Annotated[dict[str, str], Field(max_length=3)] | None = None
        path: list[str] | None = None

    sections = ["wishes", "text_or_wishes", "annotated", "inside"]
    assert [key.name for key in walk(Future) if key.section] == sections
    free = [f"{name}.{key}" for name in sections for key in ("options", "hints")]
    assert [key.name for key in walk(Future) if key.is_mapping] == [*free, "labels"]


def value_at(config: Any, place: str) -> Any:
    for name in place.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def read_free(place: str, texts: list[str]) -> list[Any]:
    """Set a key of somebody else's to each text, and return what becomes of it."""
    config = load_config(None, [f"{place}.spark.k{n}.x={text}" for n, text in enumerate(texts)])
    found: Any = value_at(config, place)
    assert list(found) == [f"spark.k{n}.x" for n in range(len(texts))]
    return list(found.values())


@pytest.mark.parametrize("place", FREE)
def test_the_values_of_free_keys_are_text_as_it_was_written(place: str) -> None:
    texts = ["|", "::", "#", "NULL", "null", "~", "-", "é", "on", "", "[a, b", "{a: 1}", "a: b"]
    texts += ["007", "0x1F", "1_000", "12:30", "1.50", "1e-6", "2026-11-24"]
    assert read_free(place, texts) == texts


@pytest.mark.parametrize("place", FREE)
def test_the_values_of_free_keys_may_be_numbers_and_booleans(place: str) -> None:
    values = {"true": True, "False": False, "4": 4, "-1": -1, "0.5": 0.5, "'4'": "4", "'on'": "on"}
    found = read_free(place, list(values))
    assert [*map(repr, found)] == [*map(repr, values.values())]


@pytest.mark.parametrize("place", FREE)
def test_a_wrong_value_of_a_free_key_is_named_in_full(tmp_path: Path, place: str) -> None:
    values: Any = {"spark.a.b": [1]}
    for name in reversed(place.split(".")):
        values = {name: values}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    shown = "spark.spark.a.b" if place == "spark" else f"{place}.spark.a.b"
    assert str(caught.value).startswith(f"{shown}: found [1] (list), expected a valid string")
    assert "; " not in str(caught.value)


def test_everything_that_contradicts_is_said_at_once() -> None:
    message = refused(
        "row_checks.rating_min=5",
        "row_checks.rating_max=1",
        "filters.last_days=3",
        "filters.since=2026-01-01",
        "training.sample_weights.rating=capped",
    )
    for part in (
        "row_checks.rating_min: found 5",
        "filters.last_days: found together",
        "weights.cap:",
    ):
        assert part in message


def test_what_contradicts_is_said_beside_what_is_wrong_elsewhere() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(
            None,
            [
                "training.epochs=x",
                "scorring.k=3",
                "filters.last_days=3",
                "filters.since=2026-01-01",
                "row_checks.rating_min=5",
                "row_checks.rating_max=1",
                "evaluation.split.test_share=0.9",
                "evaluation.split.validation_share=0.9",
                "evaluation.split.validation_since=2020-01-02",
                "evaluation.split.test_since=2020-01-01",
                "items.deny.options.mode=FAILFAST",
                "spark={driver.memory: 1g, spark.ok: 1}",
            ],
        )
    found = str(caught.value).split("; ")
    assert [line.split(": ")[0] for line in found if ": " in line] == [
        "row_checks.rating_min",
        "filters.last_days",
        "training.epochs",
        "items.deny.options.mode",
        "evaluation.split.test_share",
        "evaluation.split.validation_since",
        "spark.driver.memory",
        "scorring",
    ]


def test_ten_complaints_are_said_and_that_there_are_more() -> None:
    message = refused(*(f"wrong{n}=1" for n in range(11)))
    assert message.count("unknown key") == 10
    assert message.endswith("; and more")
    assert "more" not in refused(*(f"wrong{n}=1" for n in range(10)))


def test_everything_that_is_to_be_read_needs_a_path_or_a_table() -> None:
    places = [
        ".".join(key.inside)
        for key in walk()
        if key.section is not None and issubclass(key.section, Source)
    ]
    groups = [f"{place}.groups.g.min_count=1" for place in places if ".NAME" in place]
    config = load_config(None, [*(f"{place}.format=json" for place in places), *groups])
    lacking = {
        line.split(".format")[0]
        for lines in (
            for_training(config),
            for_scoring(config),
            for_similar(config, "items"),
            for_similar(config, "users"),
            for_evaluation(config),
        )
        for line in lines
        if "format is json" in line
    }
    assert lacking == set(places)
    assert [line.split(".format")[0] for line in for_similar(config, "users")] == ["similar.users"]


def test_a_table_of_features_needs_a_group_and_says_so_by_its_name() -> None:
    config = load_config(None, ["input.path=x", "features.items.books.path=books.csv"])
    assert "features.items.books.groups: expected a group of features in this table" in "".join(
        for_training(config)
    )
    assert refused("features.items.books.groups.g.kindd=number").endswith(
        "features.items.books.groups.g.kindd: unknown key; did you mean "
        "features.items.books.groups.g.kind?"
    )
    assert "features.items.books.groups.g.kind: found 'x' (str), expected" in refused(
        "features.items.books.groups.g.kind=x"
    )
    assert "features.items.books.groups.g.edges: expected numbers in ascending" in refused(
        "features.items.books.groups.g={kind: number, edges: [2.0, 1.0]}"
    )


def test_everything_that_a_command_lacks_is_said_at_once() -> None:
    config = load_config(
        None, ["filters.last_days=3", "cohort.users.column=id", "items.deny.column=x"]
    )
    missing = list(for_training(config)) + list(for_scoring(config))
    assert [line.split(":")[0].split(" ")[0] for line in missing] == [
        "input.format",
        "deduplication.policy",
        "filters.since,",
        "cohort.users.format",
        "items.deny.format",
    ]


def test_recsys_config_prints_what_is_shipped() -> None:
    def printed(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["config", *arguments])

    assert printed().output == (ROOT / "conf/base.yaml").read_text()
    assert printed("goodbooks").output == (ROOT / "conf/goodbooks.yaml").read_text()
    names = printed("--list").output.split()
    assert sorted(names) == sorted(path.stem for path in CONFS)
    unknown = printed("goodbook")
    assert unknown.exit_code == 2
    assert "did you mean goodbooks?" in unknown.output
    assert printed("../pyproject").exit_code == 2
    for name in sorted(path.stem for path in CONFS):
        assert name in printed("nothing").output


def test_recsys_config_loads_neither_spark_nor_numpy() -> None:
    code = """
import sys
from recsys.cli import main
main(["config"], standalone_mode=False)
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"pyspark", "py4j", "numpy", "pandas", "pyarrow"}, loaded
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == (ROOT / "conf/base.yaml").read_text()


@pytest.mark.parametrize("path", [p for p in CONFS if p.name != "base.yaml"], ids=lambda p: p.name)
def test_every_configuration_of_the_project_is_valid_and_names_its_input(path: Path) -> None:
    usable(load_config(str(path)))


@pytest.mark.parametrize(
    ("override", "key", "nearest"),
    [
        ("trainig.epochs=5", "trainig", "training"),
        ("training.epoch=5", "training.epoch", "training.epochs"),
        ("epochs=5", "epochs", "training.epochs"),
        ("input.columns.tiemstamp=t", "input.columns.tiemstamp", "input.columns.timestamp"),
        ("scoring.exclude_sen=true", "scoring.exclude_sen", "scoring.exclude_seen"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    override: str, key: str, nearest: str
) -> None:
    assert refused(override) == f"{key}: unknown key; did you mean {nearest}?"


@pytest.mark.parametrize(
    ("override", "found", "expected"),
    [
        ("training.epochs=ten", "training.epochs: found 'ten' (str)", "integer"),
        ("training.epochs=true", "training.epochs: found True (bool)", "integer"),
        ("training.epochs=0", "training.epochs: found 0 (int)", "greater than or equal to 1"),
        ("training.learning_rate=.nan", "training.learning_rate: found nan", "finite"),
        ("training.loss=wrap", "training.loss: found 'wrap' (str)", "'warp', 'bpr'"),
        ("training=5", "training: found 5 (int)", "a section with keys"),
        ("input.path=3", "input.path: found 3 (int)", "string"),
        ("spark=[1]", "spark: found [1] (list)", "a section with keys"),
        ("filters.since=soon", "filters.since: found 'soon' (str)", "a day such as"),
        ("cohort.name=001", "cohort.name: found 1 (int)", "a name of a-z"),
        ("root='a*b'", "root: found 'a*b' (str)", "a path without"),
        ("scoring.interactions=../x", "scoring.interactions: found '../x'", "an id of letters"),
        ("publishing.views=a-b", "publishing.views: found 'a-b'", "a name of a-z, 0-9 and _"),
        ("publishing.iceberg.catalog=A", "publishing.iceberg.catalog: found", "a name of a-z, 0-9"),
        ("evaluation.k=[]", "evaluation.k: found [] (list)", "a list that is not empty"),
        ("training.epochs=null", "training.epochs: found null", "integer"),
    ],
)
def test_a_wrong_value_names_the_key_and_what_was_found_and_expected(
    override: str, found: str, expected: str
) -> None:
    message = refused(override)
    assert message.startswith(found)
    assert expected in message.split(", expected ")[1]


@pytest.mark.parametrize("cohort", ["../up", "Upper", "1st", "a/b", "a" * 65, "a\nb", "a.b", "''"])
def test_a_cohort_name_that_a_reader_or_a_path_could_misread_is_refused(cohort: str) -> None:
    escaped = cohort.replace("\n", "\\n")
    assert refused(f'cohort.name="{escaped}"').startswith("cohort.name: found")


@pytest.mark.parametrize("found", ["r1-0123456789abcdef", "a", "a" * 161, "rA_.-9"])
def test_an_id_of_a_model_or_of_interactions_is_accepted(found: str) -> None:
    check_stored_id(found, key="--model", expected="the id of a model")
    assert load_config(None, [f"scoring.interactions={found}"]).scoring.interactions == found


@pytest.mark.parametrize("found", ["", "../up", "a/b", "A", "1a", "a" * 162, "a\n", "a b", "-a"])
def test_what_could_lead_out_of_the_root_is_no_id_of_a_model_or_of_interactions(found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_stored_id(found, key="--model", expected="the id of a model")
    assert str(caught.value) == f"--model: found {found!r}, expected the id of a model"
    escaped = found.replace("\n", "\\n")
    assert "scoring.interactions: found" in refused(f'scoring.interactions="{escaped}"')


@pytest.mark.parametrize("policy", ["last", "first"])
def test_policies_by_time_are_refused_without_a_timestamp_column(policy: str) -> None:
    message = refused(f"deduplication.policy={policy}")
    assert f"'{policy}' needs a timestamp" in message
    assert "choose one of max, min, mean, sum, count" in message


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["filters.last_days=7"], "need a timestamp"),
        (["filters.since=2020-01-02"], "need a timestamp"),
        (["training.loss=warp-kos", "training.sample_weights.rating=log"], "no sample weights"),
        (["row_checks.rating_min=5", "row_checks.rating_max=1"], "at most row_checks.rating_max"),
        (["spark={driver.memory: 1g}"], "begin with 'spark.'"),
        (["input.options.Mode=FAILFAST"], "the job sets this option itself"),
        (
            ["input.columns.timestamp=t", "filters.since=2020-01-02", "filters.until=2020-01-01"],
            "not after filters.until",
        ),
        (
            ["input.columns.timestamp=t", "filters.since=2020-01-02", "filters.last_days=3"],
            "one or the other",
        ),
        (["evaluation.split.test_share=0.9", "evaluation.split.validation_share=0.1"], "less than"),
        (
            [
                "evaluation.split.test_since=2020-01-02",
                "evaluation.split.validation_since=2020-01-02",
            ],
            "a day before evaluation.split.test_since",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    overrides: list[str], complaint: str
) -> None:
    assert complaint in refused(*overrides)


def test_a_repeated_key_is_refused_rather_than_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("training:\n  epochs: 1\n  epochs: 2\n")
    with pytest.raises(ConfigError, match="'epochs' stands there twice"):
        load_config(str(path))


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00", "!!python/object:os.system {}"])
def test_a_file_that_is_no_yaml_mapping_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert "\n" not in str(caught.value)
    assert "c.yaml" in str(caught.value)


def test_a_missing_file_and_a_malformed_override_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration nowhere\.yaml"):
        load_config("nowhere.yaml")
    assert "expected key=value" in refused("training.epochs")
    with pytest.raises(ConfigError, match=r"input\.format is csv: set input\.path"):
        usable(load_config(None))
    assert "is a single value" in refused("root=x", "root.y=1")


def test_overrides_win_over_the_file_and_read_numbers_as_yaml_1_2_does(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("deduplication: {policy: sum}\ntraining: {epochs: 3, item_alpha: 1e-6}\n")
    config = load_config(
        str(path), ["training.epochs=4", "spark.spark.driver.memory=3g", "input.options.sep='::'"]
    )
    assert config.training.epochs == 4
    assert config.training.item_alpha == 1e-6
    assert config.spark == {"spark.driver.memory": "3g"}
    assert config.input.options == {"sep": "::"}


def test_secrets_stay_out_of_what_is_published_and_out_of_the_hash() -> None:
    def with_secret(secret: str) -> Config:
        return load_config(
            None,
            [
                f"spark.spark.hadoop.fs.s3a.secret.key={secret}",
                f"spark.hadoop.fs.azure.sas.box.account={secret}",
                f"spark.driver.extraJavaOptions=-Dx=1 -Dstore.password={secret} -Dy=2",
                f"input.options.apiKey={secret}",
                f"input.path=[s3a://me:{secret}@bucket/x, 'https://h/x?sig={secret}&v=1']",
            ],
        )

    one, other = with_secret("hunter2"), with_secret("hunter3")
    assert "hunter" not in repr(one.public())
    assert one.fingerprint() == other.fingerprint()
    assert one.public()["input"]["path"] == ["s3a://me@bucket/x", "https://h/x?sig=(redacted)&v=1"]
    java = one.public()["spark"]["spark.driver.extraJavaOptions"]
    assert java == "-Dx=1 -Dstore.password=(redacted) -Dy=2"


def test_a_container_in_front_of_an_at_sign_is_no_secret_and_makes_another_input() -> None:
    one, two = (load_config(None, [f"input.path=abfss://{c}@acct/r"]) for c in ("one", "two"))
    assert one.fingerprint("input") != two.fingerprint("input")
    assert one.public()["input"]["path"] == "abfss://one@acct/r"


def test_errors_do_not_repeat_secrets(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("spark:\n  spark.secret.key: hunter2: x\n")
    with pytest.raises(ConfigError, match="line 2, column") as caught:
        load_config(str(path))
    assert "hunter" not in str(caught.value)
    assert "hunter" not in refused("spark.secret.key=[hunter2]", "training.epochs=x")
    assert "hunter" not in refused("training.seed=[hunter2")


@pytest.mark.parametrize("separator", ["|", "::", ",", "#", "NULL", "\t", "'::'"])
def test_overrides_of_options_are_text_whatever_yaml_makes_of_it(separator: str) -> None:
    config = load_config(None, [f"input.options.sep={separator}", "input.options.header=true"])
    assert config.input.options == {"sep": separator.strip("'"), "header": True}
    spark = load_config(None, ["spark.driver.memory=3g", "spark.spark.cores.max=4"]).spark
    assert spark == {"spark.driver.memory": "3g", "spark.cores.max": 4}


def test_cold_items_are_excluded_included_or_have_fewer_places_than_a_list() -> None:
    def places(*overrides: str) -> tuple[bool, int]:
        features = load_config(None, overrides).features
        return features.lists_cold, features.cold_places

    assert places() == (False, 0)
    assert places("features.cold_items=include") == (True, 0)
    assert places("features.cold_items=9") == (True, 9)
    assert places("features.cold_items=10", "scoring.k=11") == (True, 10)
    assert refused("features.cold_items=10") == (
        "features.cold_items: found 10, expected fewer places than scoring.k, which is 10; lower "
        "it, raise scoring.k, or choose exclude or include"
    )
    for wrong in ("0", "true", "1.0", "some"):
        message = refused(f"features.cold_items={wrong}")
        assert message.startswith("features.cold_items: found ")
        assert "expected 'exclude' or 'include' or " in message
