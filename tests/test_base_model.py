"""What a model has to have in common with a configuration, so that a run can begin with it."""

from typing import Any

import pytest
from example_manifests import trained_model

from recsys.columns import IdTypes
from recsys.flows.base_model import for_refresh, for_warm_start, not_used
from recsys.model.manifest import ModelManifest, ModelTables
from recsys.store.manifest import WrittenTable
from tests.conftest import configured

TEXT = IdTypes("string", "string")
EMPTY = WrittenTable(rows=0, files=[])


def model(**more: Any) -> ModelManifest:
    """Describe a model that was trained with the tests' configuration."""
    config = configured("out", **more.pop("sections", {}))
    tables = {"items": EMPTY, "users": EMPTY, "fold_in": EMPTY, "training_state": EMPTY}
    made = ModelManifest(
        **dict(trained_model("m1")),
        schema_version=ModelManifest.SCHEMA_VERSION,
        run_id="r",
        run_date="2026-11-24",
        created_at="2026-11-24T00:00:00+00:00",
        configuration=config.public(),
        configuration_hash="",
        fold_in=None,
        versions={},
        timings_seconds={},
        id_types=TEXT,
        n_users=1,
        n_items=1,
        no_components=4,
        tables=ModelTables(**tables),
    )
    return made.model_copy(update=more)


PLAIN = {"filters": {"rating_threshold": None}}


def refused(base: ModelManifest, types: IdTypes | None = TEXT, **sections: Any) -> list[str]:
    return list(for_warm_start(configured("out", **{**PLAIN, **sections}), base, types))


def test_the_same_configuration_is_not_refused_and_what_changes_no_meaning_neither() -> None:
    assert refused(model()) == []
    assert refused(model(), None) == []  # of JSON, whose types are not known yet
    other = {"learning_rate": 0.1, "epochs": 9, "item_alpha": 0.1, "max_sampled": 3, "seed": 5}
    assert refused(model(), training=other) == []


@pytest.mark.parametrize(
    ("training", "key"),
    [
        ({"no_components": 8}, "training.no_components: found 8, but model m1 has 4"),
        ({"learning_schedule": "adadelta"}, "training.learning_schedule: found adadelta, but"),
    ],
)
def test_another_shape_is_refused_for_a_warm_start_alone(
    training: dict[str, Any], key: str
) -> None:
    (found,) = refused(model(), training=training)
    assert found.startswith(key)
    config = configured("out", **PLAIN, training=training)
    assert list(for_refresh(config, model(), TEXT)) == []


def test_numbers_of_a_loss_and_of_a_schedule_count_where_they_are_used() -> None:
    assert refused(model(), training={"k": 3, "rho": 0.5}) == []
    ada = {"learning_schedule": "adadelta"}
    (found,) = refused(model(sections={"training": ada}), training={**ada, "rho": 0.5})
    assert found.startswith("training.rho: found 0.5, but model m1 has 0.95")


def test_settings_that_a_warm_start_does_not_use_are_named() -> None:
    def said(**training: Any) -> list[str]:
        return list(not_used(configured("out", **PLAIN, training=training), model()))

    assert said() == []
    second, minutes = said(second_view="none", max_minutes=5)
    assert "training.second_view: none is not used; the model is put together as m1 is" in second
    assert "training.max_minutes is not used by a training that goes on" in minutes


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = refused(
        model(),
        IdTypes("int", "string"),
        training={"loss": "logistic", "no_components": 8},
        filters={"rating_threshold": 3.0},
        deduplication={"policy": "max"},
    )
    keys = [one.partition(":")[0] for one in found]
    assert keys == [
        "training.loss",
        "deduplication.policy",
        "filters.rating_threshold",
        "the types of the ids",
        "training.no_components",
    ]
    assert all("model m1 has" in one for one in found)


def test_a_refresh_and_a_model_that_kept_nothing_are_refused() -> None:
    (found,) = refused(model(refresh_of="m0"))
    assert found.startswith("--from: model m1 is a refresh of m0")
    tables = model().tables.model_copy(update={"training_state": None})
    (found,) = refused(model(tables=tables))
    assert "has not kept what LightFM needs to go on" in found
