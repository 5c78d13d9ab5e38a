"""Who else is told of a run: a file of metrics, OpenLineage, MLflow."""
