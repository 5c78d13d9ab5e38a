"""Prepare, train and score: `spark-submit jobs/run.py --config FILE`."""

import sys

from recsys.cli import main

main(args=["run", *sys.argv[1:]], prog_name="recsys")
