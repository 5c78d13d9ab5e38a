"""Refresh a model, and score: `spark-submit jobs/refresh.py --config FILE --model ID`."""

import sys

from recsys.cli import main

main(args=["refresh", *sys.argv[1:]], prog_name="recsys")
