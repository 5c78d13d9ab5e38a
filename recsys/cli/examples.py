"""What `-h` shows after the options of each command: commands to begin with."""

import click

EXAMPLES = {
    "run": (
        "recsys run --config shop.yaml",
        "recsys run --config shop.yaml --run-date 2026-11-24 --run-id nightly-2026-11-24",
        "recsys run --config shop.yaml --set scoring.k=20 --json",
    ),
    "train": (
        "recsys train --config shop.yaml",
        "recsys train --config shop.yaml --from latest",
    ),
    "refresh": ("recsys refresh --config shop.yaml --model latest",),
    "score": (
        "recsys score --config shop.yaml --model latest",
        "recsys score --config shop.yaml --model latest --set cohort.name=vip",
    ),
    "similar": ("recsys similar items --config shop.yaml --model latest",),
    "evaluate": ("recsys evaluate --config shop.yaml --json",),
    "tune": ("recsys tune --config shop.yaml --storage sqlite:///tune.db --study november",),
    "doctor": (
        "recsys doctor --config shop.yaml",
        "recsys doctor --config shop.yaml --for score --model latest",
    ),
    "recommend": (
        "recsys recommend --config shop.yaml --model latest --liked p001,p007",
        "recsys recommend --config shop.yaml --model latest --features region=north,age=37 --json",
    ),
    "init": ("recsys init purchases.csv products.csv",),
    "config": (
        "recsys config",
        "recsys config --list",
        "recsys config movielens --json",
    ),
    "runs": (
        "recsys runs --config shop.yaml",
        "recsys runs --config shop.yaml --run-date 2026-11-24 --json",
    ),
    "models": ("recsys models --config shop.yaml",),
    "rollback": ("recsys rollback --config shop.yaml --cohort all --run-date 2026-11-24",),
    "why": ("recsys why --config shop.yaml --user 7 --item p013",),
    "diff": (
        "recsys diff --config shop.yaml",
        "recsys diff --config shop.yaml first second --json",
    ),
    "show": ("recsys show --config shop.yaml user 7",),
    "export": (
        "recsys export --config shop.yaml --cohort all --to lists.xlsx",
        "recsys export --config shop.yaml --cohort all --to users.json.gz --per user",
        "recsys export --config shop.yaml --cohort all --overwrite "
        "--to postgresql+psycopg2://user@host/database",
    ),
    "report": (
        "recsys report --config shop.yaml",
        "recsys report --config shop.yaml first",
    ),
    "view": ("recsys view --config shop.yaml",),
    "clean": (
        "recsys clean --config shop.yaml --stored",
        "recsys clean --config shop.yaml --stored --min-age 30 --yes",
    ),
    "plan": ("recsys plan --config shop.yaml",),
    "verify": ("recsys verify --config shop.yaml",),
}


def add_examples(group: click.Group) -> None:
    """Let the help of each command end with its examples, a line each."""
    for name, command in group.commands.items():
        if found := EXAMPLES.get(name):
            # Click keeps the lines of a paragraph that begins like this.
            command.epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in found)])
