"""Look for better hyperparameters: `spark-submit jobs/tune.py --config FILE`."""

import sys

from recsys.cli import main

main(args=["tune", *sys.argv[1:]], prog_name="recsys")
