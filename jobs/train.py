"""Prepare the ratings and train a model: `spark-submit jobs/train.py --config FILE`."""

import sys

from recsys.cli import main

main(args=["train", *sys.argv[1:]], prog_name="recsys")
