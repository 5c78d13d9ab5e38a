"""How to run the same again: the configuration of a run as a file, and the command."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from recsys.config.configuration import Config
from recsys.config.reading import stored_config
from recsys.config.writing import render
from recsys.errors import ConfigError
from recsys.flows.manifest import RunManifest
from recsys.store.files import RUNS

CONFIGURATION = "configuration.yaml"


def configuration(run: RunManifest) -> str | None:
    """Return the configuration of a run as YAML: what is not a default, and no secrets.

    None where the run was made by another version of this package.
    """
    try:
        whole = stored_config(run.configuration, f"the configuration of run {run.run_id}")
        changed = _changed(whole.model_dump(mode="json"), Config().model_dump(mode="json"))
        config = Config.model_validate_json(json.dumps(changed))
    except (ConfigError, ValueError):
        return None
    about = [
        f"The configuration of run {run.run_id}, as its record has it: what is not a default.",
        "Paths that do not begin with / begin where the run was started.",
    ]
    same = config.fingerprint() == whole.fingerprint()
    return render(config if same else whole, about, {})


def command(run: RunManifest) -> str:
    """Return the command that runs the same again, under a new run id.

    It names the file CONFIGURATION beside the record.
    """
    job, _, kind = run.job.partition("-")
    root = str(run.configuration.get("root", "output")).rstrip("/")
    words = ["recsys", job, *([kind] if kind else [])]
    if job == "train" and run.base_model_id is not None:
        words += ["--from", run.base_model_id]
    elif job == "refresh" and run.base_model_id is not None:
        words += ["--model", run.base_model_id]
    elif job in ("score", "similar") and run.model_id is not None:
        words += ["--model", run.model_id]
    words += ["--config", f"{root}/{RUNS}/{run.run_id}/{CONFIGURATION}"]
    if run.tuning is not None:
        words += ["--storage", run.tuning.storage, "--study", run.tuning.study]
    if run.forced:
        words.append("--force")
    return shlex.join([*words, "--run-date", run.run_date])


def why(run: RunManifest, before: str) -> str:
    """Return the command that says what changed since another run, and why."""
    root = str(run.configuration.get("root", "output"))
    return shlex.join(["recsys", "diff", before, run.run_id, "--set", f"root={root}"])


def _changed(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs from the defaults, section by section."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if value == default and key in defaults:
            continue
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            found[key] = _changed(value, default)
        else:
            found[key] = value
    return found
