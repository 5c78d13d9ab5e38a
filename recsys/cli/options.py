"""Options that several commands have."""

from collections.abc import Callable, Sequence
from typing import Any

import click

Function = Callable[..., Any]

CONFIG_OPTIONS = [
    click.option("--config", help="YAML file; `recsys config` prints every key."),
    click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a single key."
    ),
]
OPTIONS = [
    *CONFIG_OPTIONS,
    click.option(
        "--run-date",
        type=click.DateTime(["%Y-%m-%d"]),
        help="The day that the run works for; default: today (UTC).",
    ),
    click.option(
        "--run-id",
        help="Id of the run, such as a scheduler's; a retry with the same one goes on with it.",
    ),
    click.option("--debug", is_flag=True, help="Show tracebacks and Spark's own log."),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How the log on standard error is written: lines of text, or one JSON object a line.",
    ),
]


FORCE = click.option(
    "--force", is_flag=True, help="Publish although a gate fails; the manifest says which."
)

MODEL = click.option(
    "--model",
    "model_id",
    required=True,
    help="Id of the model, as train printed it, or latest; see recsys models.",
)


def with_options(
    options: Sequence[Callable[[Function], Function]],
) -> Callable[[Function], Function]:
    """Add options to a command, in this order."""

    def add(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return add


JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def for_command(*names: str) -> Callable[[Function], Function]:
    """Add the option that names another command, one of these."""
    about = "The command that is meant."
    choice = click.Choice(names)
    return click.option("--for", "name", type=choice, default="run", show_default=True, help=about)
