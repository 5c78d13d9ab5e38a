"""Tuning: never worse than the configuration, the same after a kill, and what is refused."""

import contextlib
import dataclasses
import datetime as dt
import signal
import sqlite3
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recsys.config.configuration import Config
from recsys.config.reading import load_config
from recsys.config.sections import SampleWeights, Training, Tuning, TuningRanges
from recsys.config.writing import render
from recsys.errors import ConfigError, ConflictError, OutputError, TrainingError
from recsys.learn import search_space, studies, tuning
from recsys.learn.fitting import fit
from recsys.learn.penalty import penalties
from recsys.learn.sample_weights import Labelled
from recsys.learn.trials import COMPLETE, DIVERGED, KILLED, PRUNED, Tried
from tests.conftest import ROOT, configured, csv_input, table, write_csv

SETTINGS = Training(
    no_components=8, epochs=14, threads=1, learning_rate=0.01, item_alpha=1e-5, user_alpha=1e-5
)
RANGES = TuningRanges(no_components=[4, 16])
SECRET = "hunter2"  # noqa: S105


def some_pairs(seed: int = 0) -> Labelled:
    """Make pairs that follow a taste of 4 dimensions, with ratings from 1 to 5."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(120, 4)) @ rng.normal(size=(4, 60))
    rows, cols = (part.astype(np.int32) for part in np.nonzero(scores > np.quantile(scores, 0.85)))
    labels = sp.coo_matrix((np.ones(len(rows), np.float32), (rows, cols)), shape=scores.shape)
    return Labelled(labels, rng.integers(1, 6, len(rows)).astype(np.float32), None)


def limit(trials: int, **more: Any) -> Tuning:
    return Tuning.model_validate({"minutes": None, "trials": trials, "ranges": RANGES, **more})


def tuned(
    storage: str | None,
    settings: Training = SETTINGS,
    how: Tuning | None = None,
    *,
    study: str = "recsys",
    pairs: Labelled | None = None,
) -> tuning.Tuned:
    """Tune on one thread, in a storage or in memory."""
    pairs, how = pairs or some_pairs(), how or limit(4)
    if storage is None:
        return tuning.tune(pairs, settings, how, studies.in_memory(), threads=1)
    with studies.opened(storage, study) as opened:
        studies.agree(opened, search_space.fixed(settings, how), storage)
        return tuning.tune(pairs, settings, how, opened, threads=1)


def without_times(trials: Any) -> list[Tried]:
    made = [one for one in trials if one.state != KILLED]
    return [
        dataclasses.replace(one, number=n, seconds=0, started_at=None) for n, one in enumerate(made)
    ]


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URI of each kind of storage."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tune.db'}"
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def study() -> str:
    """Give a name of its own to each test, whose PostgreSQL is the suite's."""
    return f"s{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def ten() -> tuning.Tuned:
    """Make ten trials, none of which is interrupted."""
    return tuned(None, how=limit(10))


def test_the_first_trial_is_the_training_as_it_is_configured(ten: tuning.Tuned) -> None:
    pairs = some_pairs()
    asked = fit(pairs.labels, SETTINGS, threads=1, ratings=pairs.ratings).report
    first = ten.trials[0]
    assert first == ten.first
    assert first.first
    assert first.values == search_space.values_of(SETTINGS)
    assert first.ndcg == asked["ndcg"]
    assert (first.kept_epoch, list(first.epochs)) == (asked["kept_epoch"], asked["epochs"])
    assert list(first.curve) == asked["curve"]


def test_the_result_is_the_best_trial_and_trains_to_its_ndcg(ten: tuning.Tuned) -> None:
    complete = [one.ndcg or 0 for one in ten.trials if one.state == COMPLETE]
    assert ten.best.ndcg == max(complete) > (ten.first.ndcg or 0)
    pairs = some_pairs()
    again = fit(pairs.labels, ten.training, threads=1, ratings=pairs.ratings).report
    assert again["ndcg"] == ten.best.ndcg
    assert again["kept_epoch"] == ten.best.kept_epoch


def test_all_values_are_within_their_ranges_and_can_be_read(ten: tuning.Tuned) -> None:
    assert len(ten.trials) == 10
    assert [one.number for one in ten.trials] == list(range(10))
    assert len({tuple(one.values.values()) for one in ten.trials}) == 10
    for one in ten.trials[1:]:
        for name in ten.names:
            value, wanted = one.values[name], getattr(RANGES, name)
            if name == "rating":
                assert value in wanted
            else:
                assert wanted[0] <= value <= wanted[1]
                assert float(f"{value:.3g}") == value


def test_a_trial_is_given_up_below_the_median_of_the_completed_ones(ten: tuning.Tuned) -> None:
    pruned = [one for one in ten.trials if one.state == PRUNED]
    assert pruned
    for one in pruned:
        last = one.epochs[-1]
        earlier = [o for o in ten.trials[: one.number] if o.state == COMPLETE]
        there = [o.curve[list(o.epochs).index(last)] for o in earlier if last in o.epochs]
        assert len(earlier) >= 4
        assert last >= 8
        assert max(one.curve) < np.median(there)
        assert one.reason == f"below the median of completed trials after epoch {last}"


def test_the_same_seed_makes_the_same_trials_and_another_one_others(ten: tuning.Tuned) -> None:
    again = tuned(None, how=limit(4))
    assert without_times(again.trials) == without_times(ten.trials[:4])
    other = tuned(None, how=limit(3, seed=7))
    assert other.trials[0].curve == ten.trials[0].curve
    assert other.trials[1].values != ten.trials[1].values


KILLED_IN_A_TRIAL = """
import os, signal, sys
from recsys.learn import studies
from tests import test_tune

ranges = test_tune.limit(10)
storage, study, trial, epoch = sys.argv[1:]
Watch = test_tune.tuning.Watch

class Killing(Watch):
    def __call__(self, now, ndcg):
        ended = super().__call__(now, ndcg)
        if (self._trial.number, now) == (int(trial), int(epoch)):
            os.kill(os.getpid(), signal.SIGKILL)
        return ended

test_tune.tuning.Watch = Killing
test_tune.tuned(storage, how=ranges, study=study)
"""


def killed_in(storage: str, study: str, trial: int, epoch: int) -> None:
    """Tune in a process of its own, which is killed in a trial."""
    start = [sys.executable, "-c", textwrap.dedent(KILLED_IN_A_TRIAL)]
    ended = subprocess.run(
        [*start, storage, study, str(trial), str(epoch)], cwd=ROOT, capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]


def test_after_kills_the_trials_are_those_that_there_would_have_been(
    storage: str, study: str, ten: tuning.Tuned
) -> None:
    killed_in(storage, study, 0, 4)  # the first one, which is made again
    killed_in(storage, study, 4, 6)  # with one killed before: the fourth that counts
    resumed = tuned(storage, how=limit(10), study=study)
    assert [one.number for one in resumed.trials if one.state == KILLED] == [0, 4]
    assert without_times(resumed.trials) == without_times(ten.trials)
    assert resumed.training == ten.training
    assert resumed.trials[4].reason == "its process ended"
    assert resumed.trials[4].values == resumed.trials[5].values
    assert resumed.trials[4].seconds > 0  # they count for the limit
    states = {trial.state.name for trial in kept_trials(storage, study)}
    assert states == {"FAIL", "COMPLETE", "PRUNED"}  # for whoever else reads the storage
    more = tuned(storage, how=limit(11), study=study)  # a limit may be raised
    assert without_times(more.trials)[:10] == without_times(ten.trials)
    assert len(without_times(more.trials)) == 11


def kept_trials(storage: str, study: str) -> list[Any]:
    with studies.opened(storage, study) as opened:
        return opened.get_trials()


def test_the_time_of_earlier_attempts_counts(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 't.db'}"
    made = tuned(storage)
    spent = sum(one.seconds for one in made.trials)
    # Less by so little that rounding does not matter.
    how = Tuning(minutes=spent / 60 - 1e-9, trials=None, ranges=RANGES)
    assert tuned(storage, how=how).trials == made.trials
    longer = Tuning(minutes=spent / 60 + 1e-6, trials=None, ranges=RANGES)
    more = tuned(storage, how=longer).trials
    assert len(more) == 5
    assert more[4].state in (PRUNED, COMPLETE)
    assert more[4].epochs == [2]  # it ended after the first epoch that was judged
    assert more[4].reason == "the time was over after epoch 2"


def test_the_first_trial_is_completed_whatever_the_time() -> None:
    made = tuned(None, how=Tuning(minutes=1e-6, ranges=RANGES))
    assert [one.state for one in made.trials] == [COMPLETE]
    assert made.training == SETTINGS
    assert made.trials[0].epochs[-1] == SETTINGS.epochs


def test_values_outside_of_their_ranges_are_trained_first_and_not_again() -> None:
    given = {"no_components": 2, "item_alpha": 0.0, "learning_rate": 0.0123456}
    outside = SETTINGS.model_copy(update=given)
    made = tuned(None, outside, limit(3))
    assert {name: made.trials[0].values[name] for name in given} == given
    assert all(one.values["no_components"] >= 4 for one in made.trials[1:])


def test_penalties_by_the_data_are_numbers_in_the_trials_and_stay_if_nothing_is_better() -> None:
    pairs = some_pairs()
    auto = SETTINGS.model_copy(update={"item_alpha": "auto", "user_alpha": "auto"})
    made = tuned(None, auto, limit(1), pairs=pairs)
    assert made.trials[0].values["item_alpha"] == penalties(auto, pairs.labels).item_alpha
    asked = fit(pairs.labels, auto, threads=1, ratings=pairs.ratings).report
    assert list(made.trials[0].curve) == asked["curve"]
    assert made.training == auto
    # What has no range stays as it is, and is a number in the table nevertheless.
    ranges = RANGES.model_copy(update={"item_alpha": None})
    others = tuned(None, auto, Tuning(trials=3, minutes=None, ranges=ranges), pairs=pairs).trials
    assert all(isinstance(one.values["item_alpha"], float) for one in others)


def test_a_capped_rating_is_tried_first_and_others_have_no_cap() -> None:
    capped = SETTINGS.model_copy(
        update={"sample_weights": SampleWeights(rating="capped", cap=3.0, user_exponent=0.0)}
    )
    made = tuned(None, capped, limit(3))
    assert made.trials[0].values["rating"] == "capped"
    assert {one.values["rating"] for one in made.trials[1:]} <= {"none", "log", "linear"}
    assert search_space.applied(capped, {"rating": "log"}).sample_weights.cap is None


def test_trials_that_diverge_are_told_and_the_next_one_begins() -> None:
    wild = TuningRanges.model_validate(
        {**dict.fromkeys(TuningRanges.model_fields), "learning_rate": [50.0, 90.0]}
    )
    made = tuned(None, how=limit(3, ranges=wild))
    assert [one.state for one in made.trials] == [COMPLETE, DIVERGED, DIVERGED]
    assert "diverged" in (made.trials[1].reason or "")
    assert made.trials[1].ndcg is None
    assert made.training == SETTINGS


def test_a_configuration_that_diverges_is_refused_like_in_training() -> None:
    wild = SETTINGS.model_copy(update={"learning_rate": 50.0})
    with pytest.raises(TrainingError, match="diverged"):
        tuned(None, wild)


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"loss": "warp"}, set()),
        ({"loss": "bpr"}, {"max_sampled"}),
        ({"loss": "logistic"}, {"max_sampled"}),
        ({"learning_schedule": "adadelta"}, {"learning_rate"}),
        (
            {"loss": "warp-kos", "sample_weights": SampleWeights(rating="none", user_exponent=0.0)},
            {"user_exponent", "rating"},
        ),
    ],
)
def test_what_has_no_effect_is_not_tuned(settings: dict[str, Any], missing: set[str]) -> None:
    found = search_space.tuned_names(Training(**settings), TuningRanges())
    assert set(TuningRanges.model_fields) - set(found) == missing
    assert search_space.tuned_names(Training(), TuningRanges(ema_decay=None))[-1] == "rating"


@pytest.mark.parametrize("ratings", [[1, 1, 1], [0, 1, 2], [-1, 1, 2], None])
def test_rating_weights_are_tuned_only_where_they_differ_and_are_above_0(
    ratings: list[float] | None,
) -> None:
    cells = ([0, 1, 2], [0, 0, 1])
    labels = sp.coo_matrix((np.ones(3, np.float32), cells), shape=(3, 2))
    made = Labelled(labels, None if ratings is None else np.array(ratings, np.float32), None)
    assert not search_space.rating_weighs(made)
    fine = Labelled(labels, np.array([1, 2, 2], np.float32), None)
    assert search_space.rating_weighs(fine)


# Refusals


def test_a_study_of_something_else_is_refused_and_says_what_differs(
    storage: str, study: str
) -> None:
    tuned(storage, how=limit(1), study=study)
    other = SETTINGS.model_copy(update={"epochs": 15})
    cases: list[tuple[Training, Tuning, str]] = [
        (other, limit(1), r"training\.epochs \(14 there, 15 now\)"),
        (SETTINGS, limit(1, seed=1), r"tuning\.seed \(42 there, 1 now\)"),
        (
            SETTINGS,
            limit(1, ranges=TuningRanges(no_components=[4, 17])),
            r"tuning\.ranges\.no_components",
        ),
    ]
    for settings, how, message in cases:
        fixed = search_space.fixed(settings, how)
        with pytest.raises(ConfigError, match=message) as early:
            studies.check(storage, study, fixed)
        with pytest.raises(ConfigError, match=message):
            tuned(storage, settings, how, study=study)
        assert "choose another --study or --storage" in str(early.value)
    about = {**search_space.fixed(SETTINGS, limit(1)), "input": {"pairs": 3}}
    with studies.opened(storage, study) as opened, pytest.raises(ConfigError, match=r"input\.pair"):
        studies.agree(opened, about, storage)
    studies.check(storage, study, search_space.fixed(SETTINGS, limit(9)))  # a limit may differ
    threads = SETTINGS.model_copy(update={"threads": 2})
    studies.check(storage, study, search_space.fixed(threads, limit(1)))
    studies.check(storage, f"{study}-2", search_space.fixed(other, limit(1)))


def test_a_study_of_another_program_is_refused(tmp_path: Path) -> None:
    import optuna

    storage = f"sqlite:///{tmp_path / 't.db'}"
    optuna.create_study(storage=storage, study_name="recsys", direction="maximize").ask()
    with pytest.raises(ConfigError, match="was not made by recsys tune"):
        tuned(storage)


def test_two_processes_do_not_work_on_the_same_study(storage: str, study: str) -> None:
    with studies.opened(storage, study):
        with pytest.raises(ConflictError, match="another process tunes in"):
            tuned(storage, study=study)
        studies.check(storage, study, {})  # only looks
    tuned(storage, how=limit(1), study=study)


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("sqlite://", ConfigError, "expected sqlite:///tune.db"),
        ("sqlite:///:memory:", ConfigError, "expected sqlite:///tune.db"),
        (f"mysql://me:{SECRET}@h/db", ConfigError, "expected sqlite"),
        ("tune.db", ConfigError, "expected sqlite"),
        (f"postgresql:me:{SECRET}", ConfigError, "expected sqlite"),
        (f"postgresql+nothing://me:{SECRET}@127.0.0.1/db", ConfigError, "nothing"),
        (f"postgresql://me:{SECRET}@127.0.0.1:1/db", OutputError, "run again to go on"),
        ("sqlite:////nowhere/at/all/tune.db", OutputError, "unable to open database file"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused_without_its_password(
    uri: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        studies.check(uri, "recsys", {})
    assert SECRET not in str(raised.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.db").write_text("no database " * 100)
    with pytest.raises(OutputError, match="file is not a database"):
        studies.check(f"sqlite:///{tmp_path / 't.db'}", "recsys", {})


def test_a_storage_that_fails_later_is_told_in_one_line(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 't.db'}"
    tuned(storage, how=limit(1))
    how = limit(2)
    with pytest.raises(OutputError, match=r"failed: .*no such table.* run again to go on"):  # noqa: SIM117, PT012
        with studies.opened(storage, "recsys") as opened:
            with contextlib.closing(sqlite3.connect(tmp_path / "t.db")) as file:
                file.execute("drop table trial_values")
            tuning.tune(some_pairs(), SETTINGS, how, opened, threads=1)


@pytest.mark.parametrize("name", ["", "../x", "a b", "x" * 129])
def test_a_name_of_a_study_is_plain(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--study: found"):
        studies.check(f"sqlite:///{tmp_path / 't.db'}", name, {})


def test_without_optuna_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'recsys-batch\[tune\]'"):
        studies.check_installed()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"minutes": None}, "minutes: found null, and trials null as well"),
        ({"ranges": {"ema_decay": [0.9, 0.8]}}, "ema_decay: found"),
        ({"ranges": {"no_components": [4, 4]}}, "no_components: found"),
        ({"ranges": {"rating": ["log", "log"]}}, "rating: found"),
        ({"ranges": {"item_alpha": [0.0, 1.0]}}, "greater than 0"),
        ({"ranges": {"no_components": [4]}}, "expected a list of 2 values"),
    ],
)
def test_ranges_that_are_none_are_refused(
    section: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump({"tuning": section}))
    with pytest.raises(ConfigError, match=message):
        load_config(str(path))


# The configuration that is written


@hypothesis.settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text("abcXY0_-.é", min_size=1, max_size=8),
        st.one_of(
            st.text(max_size=12),
            st.booleans(),
            st.integers(-(2**40), 2**40),
            st.floats(allow_nan=False, allow_infinity=False),
            st.sampled_from(
                [
                    "1e-6",
                    "1.5e3",
                    "no",
                    "~",
                    "2026-11-24",
                    "a: b # c",
                    "|",
                    "0x1F",
                    "",
                    "a\x85b\u2028",
                ]
            ),
        ),
        max_size=4,
    )
)
def test_a_written_configuration_says_the_same(options: dict[str, Any]) -> None:
    import tempfile

    from recsys.config.redaction import names_secret, redact

    plain = {k: v for k, v in options.items() if not names_secret(k) and redact(v) == v}
    config = Config.model_validate(
        {
            "input": {"path": ["a", "b*.csv"], "options": plain},
            "filters": {"since": dt.date(2026, 11, 24)},
            "training": {"item_alpha": 1.25e-7, "early_stopping": None},
            "spark": {"spark.a.b": "1e-6", "spark.c": True},
        }
    )
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(render(config, ["A line."], {"training.item_alpha": "It was 0."}))
        file.flush()
        assert load_config(file.name) == config


def test_a_written_configuration_has_comments_and_no_secrets() -> None:
    uri = f"postgresql+psycopg2://me:{SECRET}@h/db"
    config = Config.model_validate(
        {
            "training": {"no_components": 70, "sample_weights": {"rating": "none"}},
            "publishing": {"iceberg": {"properties": {"uri": uri}}},
            "spark": {"spark.hadoop.fs.s3a.secret.key": SECRET, "spark.ui.enabled": False},
        }
    )
    notes = {"training.sample_weights.rating": "It was log."}
    secrets = "publishing.iceberg.properties.uri, spark.spark.hadoop.fs.s3a.secret.key"
    written = render(config, ["Found.", ""], notes).replace(secrets, "SECRETS")
    assert written == textwrap.dedent("""\
        # Found.
        #
        # Left out, because they are secrets: SECRETS.
        training:
          no_components: 70
          sample_weights:
            # It was log.
            rating: none
        publishing:
          iceberg:
            properties: {}
        spark:
          spark.ui.enabled: false
        """)


# The command


def ratings(path: Path, *more: list[Any]) -> dict[str, Any]:
    pairs = some_pairs()
    rows = [
        [f"u{user:03}", f"i{item:03}", int(rating), 1_700_000_000]
        for user, item, rating in zip(
            pairs.labels.row,
            pairs.labels.col,
            pairs.ratings if pairs.ratings is not None else [],
            strict=True,
        )
    ]
    return csv_input(write_csv(path, [*rows, *more]))


SECTIONS: dict[str, Any] = {
    "training": {
        "epochs": 8,
        "no_components": 8,
        "learning_rate": 0.01,
        "early_stopping": {"refit": False},
        "sample_weights": {"rating": "none"},
    },
    "tuning": {"minutes": None, "trials": 6, "ranges": {"no_components": [4, 16]}},
}


def test_the_command_writes_a_configuration_that_trains_to_what_it_says(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    source = ratings(tmp_path / "r.csv")
    manifest = run("tune", input=source, **SECTIONS)
    found = manifest["tuning"]
    assert found["trials"].get("killed") is None
    assert sum(found["trials"].values()) == 6
    assert found["ndcg"] > found["ndcg_as_configured"] > 0
    assert found["study"] == "recsys"
    assert "training.sample_weights.rating" in found["found"]

    frame = table(manifest, "trials")
    assert list(frame["trial"]) == list(range(6))
    best = frame.iloc[found["best_trial"]]
    assert best["ndcg"] == found["ndcg"] == frame[frame["state"] == COMPLETE]["ndcg"].max()
    assert best["no_components"] == found["found"]["training.no_components"]
    assert best["ndcg"] in best["curve"]
    assert frame["started_at"].is_monotonic_increasing
    assert pd.isna(best["reason"])

    path = Path(found["configuration"].removeprefix("file:"))
    written = load_config(str(path))
    assert f"{found['ndcg']:.4f}" in path.read_text()
    assert "it was 8" in path.read_text()
    asked = configured(tmp_path / "out", input=source, **SECTIONS)
    assert written == asked.model_copy(update={"training": written.training})
    trained = run("train", run_id="t", input=source, training=written.model_dump()["training"])
    model = run_manifest(tmp_path / "out" / "models" / trained["model_id"])
    assert model["training"]["early_stopping"]["ndcg"] == found["ndcg"]

    # Another run goes on with the same trials, and a finished one is not made again.
    more = {**SECTIONS, "tuning": {**SECTIONS["tuning"], "trials": 7}}
    again = run("tune", run_id="r2", input=source, **more)
    assert sum(again["tuning"]["trials"].values()) == 7
    pd.testing.assert_frame_equal(table(again, "trials")[:6], frame)
    assert run("tune", run_id="r2", input=source, **more) == again
    # One row more is another input.
    with pytest.raises(ConfigError, match=r"input\.pairs"):
        run("tune", run_id="r3", input=ratings(tmp_path / "r2.csv", ["u000", "new", 3, 1]), **more)
    # What is known before the input is read is refused before.
    other = {**more, "training": {**SECTIONS["training"], "epochs": 9}}
    with pytest.raises(ConfigError, match=r"training\.epochs \(8 there, 9 now\)"):
        run("tune", run_id="r4", input=source, **other)
    assert not list((tmp_path / "out" / "interactions").glob("r4-*"))


def run_manifest(place: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads((place / "manifest.json").read_text())
    return found


def test_ratings_of_0_keep_the_rating_weights_as_configured(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    source = ratings(tmp_path / "r.csv", ["u000", "i059", 0, 1])
    sections = {**SECTIONS, "tuning": {"minutes": None, "trials": 2}}
    found = run("tune", input=source, **sections)["tuning"]["found"]
    assert "training.sample_weights.rating" not in found
    assert "training.sample_weights.user_exponent" in found
    above = {**sections, "filters": {"rating_threshold": 1}}  # then a 0 is not positive anyway
    found = run("tune", run_id="r2", root=tmp_path / "o2", input=source, **above)["tuning"]["found"]
    assert "training.sample_weights.rating" in found


def test_without_early_stopping_it_is_refused_before_spark_starts(
    run: Callable[..., dict[str, Any]],
) -> None:
    with pytest.raises(ConfigError, match=r"training\.early_stopping: found null"):
        run("tune", input=csv_input("nowhere.csv"))
    none = {"ranges": {**dict.fromkeys(TuningRanges.model_fields), "max_sampled": [1, 2]}}
    with pytest.raises(ConfigError, match=r"tuning\.ranges: found no hyperparameter"):
        run(
            "tune",
            input=csv_input("nowhere.csv"),
            training={"loss": "bpr", "early_stopping": {}},
            tuning=none,
        )
