"""Write nearest neighbours: `spark-submit jobs/similar.py items --config FILE --model ID`."""

import sys

from recsys.cli import main

main(args=["similar", *sys.argv[1:]], prog_name="recsys")
