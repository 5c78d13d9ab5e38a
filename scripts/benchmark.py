"""What it costs, in one run.

    python scripts/benchmark.py NAME

NAME is diff, epochs, evaluate, features, kernel, local, read, sampling, size, spark or stopping.

Machines are noisy, so everything that is compared runs in turns in one run: keep the ratios, not
the microseconds. Peers that are not installed are skipped, with a reason; `pip install
'.[peers,demo]'` brings them.
"""

import os

# Before NumPy loads its BLAS.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.pop("OPENBLAS_CORETYPE", None)

import click
from benchmark_diff import diff_command
from benchmark_epochs import epochs_command
from benchmark_evaluate import evaluate_command
from benchmark_features import features_command
from benchmark_kernel import kernel_command
from benchmark_local import local_command
from benchmark_read import read_command
from benchmark_sampling import sampling_command
from benchmark_size import size_command
from benchmark_spark import spark_command
from benchmark_stopping import stopping_command


@click.group(help=__doc__)
def main() -> None:
    pass


main.add_command(diff_command)
main.add_command(epochs_command)
main.add_command(evaluate_command)
main.add_command(features_command)
main.add_command(kernel_command)
main.add_command(local_command)
main.add_command(read_command)
main.add_command(sampling_command)
main.add_command(size_command)
main.add_command(spark_command)
main.add_command(stopping_command)

if __name__ == "__main__":
    main()
