"""`python -m recsys.cli`."""

from recsys.cli import main

main(prog_name="recsys")
