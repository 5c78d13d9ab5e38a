"""Every lower bound of a dependency is a version that scripts/lowest.sh has run."""

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BOUNDS = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["iceberg"]]


def lowest_run() -> dict[str, Version]:
    lines = (ROOT / "scripts/lowest.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines)
    return {name: Version(version) for name, version in pairs}


@pytest.mark.parametrize("text", BOUNDS)
def test_the_lowest_version_that_is_admitted_was_run(text: str) -> None:
    requirement = Requirement(text)
    bounds = [one.version for one in requirement.specifier if one.operator in (">=", "==")]
    assert len(bounds) == 1, "a lower bound"
    ran = lowest_run()[requirement.name]
    assert ran == Version(bounds[0]), "run scripts/lowest.sh"
