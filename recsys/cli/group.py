"""The command `recsys`, to which the modules beside this one add what follows it."""

import click


def _show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from recsys.runtime.build import commit, version

        click.echo(f"recsys {version()}, commit {commit()}")
        context.exit()


_EPILOG = """\b
Each command has examples at the end of its help: recsys run -h
Completion in bash: eval "$(_RECSYS_COMPLETE=bash_source recsys)"
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and the commit.",
)
def main() -> None:
    """Batch recommendations: Spark prepares and scores, LightFM learns."""
