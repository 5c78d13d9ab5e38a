from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from recsys.cli import main
from recsys.config.configuration import Config
from recsys.config.keys import free_form, walk
from recsys.config.reading import load_config
from recsys.config.reference import render_defaults, render_reference
from recsys.config.requirements import for_scoring, for_training
from recsys.errors import ConfigError
from tests.conftest import ROOT

CONFS = sorted((ROOT / "conf").glob("*.yaml"))


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


def test_every_key_has_a_description() -> None:
    silent = [
        key.name
        for key in walk()
        if not key.field.description and (key.section is None or not key.section.__doc__)
    ]
    assert silent == []
    reference = render_reference()
    assert [
        key.name for key in walk() if f"`{key.path[-1]}`" not in reference and not key.section
    ] == []


FREE = [
    "input.options",
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


@pytest.mark.parametrize("place", [name for name in FREE if name != "spark"])
@pytest.mark.parametrize("value", ["|", "::", "#", "NULL", "null", "-", "é"])
def test_the_values_of_options_are_text_as_it_was_written(place: str, value: str) -> None:
    config = load_config(None, [f"{place}.some.key={value}"])
    found: Any = config
    for name in place.split("."):
        found = getattr(found, name)
    assert found == {"some.key": value}


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
