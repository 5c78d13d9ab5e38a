"""The whole job, ratings to recommendations: `spark-submit jobs/run.py --config conf/x.yaml`."""

from typing import Any

from recsys.flows.execution import Job, Options, execute
from recsys.flows.score import check_publishing, score
from recsys.flows.train import outputs, train


def steps(job: Job) -> dict[str, Any]:
    """Run the steps and say what came of them."""
    check_publishing(job)
    model = train(job)
    scored = score(job, model)
    return {
        "model_id": model.model_id,
        "cohort": job.config.cohort.name,
        "counts": model.manifest["counts"],
        **scored,
        "outputs": {**outputs(job, model), **scored["outputs"]},
    }


def main(options: Options) -> int:
    """Run the job and return its exit status."""
    return execute("run", options, steps)
