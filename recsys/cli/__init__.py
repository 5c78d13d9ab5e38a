"""The command line: what spark-submit runs as well, and what needs no Spark."""

from recsys.cli import export, jobs, look  # noqa: F401 - they add the commands
from recsys.cli.examples import add_examples
from recsys.cli.group import main

add_examples(main)

__all__ = ["main"]
