"""Measure a model on held-out pairs: `spark-submit jobs/evaluate.py --config FILE`."""

import sys

from recsys.cli import main

main(args=["evaluate", *sys.argv[1:]], prog_name="recsys")
