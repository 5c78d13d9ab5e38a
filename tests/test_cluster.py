"""Real clusters, whose workers have neither LightFM nor sources, publish the lists of local[2]."""

from pathlib import Path

import pytest
from cluster_runs import UnavailableError, cluster
from try_cluster import Trial

from tests.mounts import mounted

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    mounted(["unshare", "--mount", "true"])
    return Trial(tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def expected(trial: Trial) -> dict[str, str]:
    return trial.reference()


def test_a_standalone_cluster_publishes_the_same_lists(
    trial: Trial, expected: dict[str, str]
) -> None:
    with cluster("standalone", trial.folder / "standalone", hidden=True) as at:
        assert trial.standalone(at) == expected


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_yarn_publishes_the_same_lists(trial: Trial, expected: dict[str, str], mode: str) -> None:
    try:
        with cluster("yarn", trial.folder / f"yarn-{mode}", hidden=True) as at:
            assert trial.yarn(at, mode) == expected
    except UnavailableError as error:
        pytest.skip(str(error))


def test_a_standalone_cluster_starts_without_hadoop_s_jars_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_HADOOP", str(tmp_path / "nothing"))
    with cluster("standalone", tmp_path / "c") as at:
        assert at.environment["SPARK_MASTER"].startswith("spark://127.0.0.1:")
        pids = [at.pid(name) for name in ("master", "worker1", "worker2")]
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not (tmp_path / "c").exists()
