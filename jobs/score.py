"""Score a cohort with a model: `spark-submit jobs/score.py --config FILE --model ID`."""

import sys

from recsys.cli import main

main(args=["score", *sys.argv[1:]], prog_name="recsys")
