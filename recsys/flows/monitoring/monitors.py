"""Tells others of a run, as the section `monitoring` wants; none of them can make it fail."""

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from recsys.config.configuration import Config
from recsys.config.redaction import redact
from recsys.errors import ConfigError, unexpected
from recsys.flows.manifest import RunManifest
from recsys.flows.monitoring import metrics_file
from recsys.publishing.versions import Version

log = logging.getLogger(__name__)

_EXTRAS = {
    "openlineage": ("openlineage", "openlineage-python", "lineage"),
    "mlflow": ("mlflow", "mlflow-skinny", "mlflow"),
}
# MLflow's own retries would hold a run that is ready for minutes, its lines would not be JSON, and
# it would tell its makers of each use. Whoever has set these variables keeps them.
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class Monitor(Protocol):
    """One that is told; it may raise whatever it likes."""

    def began(self, manifest: RunManifest) -> None:
        """Take note that a run goes on."""

    def ended(self, manifest: RunManifest) -> None:
        """Take note how a run has ended."""


def lacking(config: Config) -> Iterator[str]:
    """Say what the section `monitoring` wants and this process cannot do."""
    settings = config.monitoring
    for key, (module, package, extra) in _EXTRAS.items():
        if getattr(settings, key) is not None and importlib.util.find_spec(module) is None:
            yield (
                f"monitoring.{key}: {package} is not installed; install the extra {extra} of "
                "recsys-batch, or set the key to null"
            )
    if settings.mlflow is not None and not os.environ.get("MLFLOW_TRACKING_URI"):
        yield (
            "monitoring.mlflow: MLFLOW_TRACKING_URI is not set, expected the address of MLflow's "
            "server; set it, or set the key to null"
        )
    if settings.metrics_file is not None:
        try:
            metrics_file.check(settings.metrics_file)
        except ConfigError as error:
            yield str(error)


class Monitors:
    """All who want to be told of a run."""

    def __init__(
        self, config: Config, root: str, published: Callable[[str], Version | None]
    ) -> None:
        """Find out who wants to be told.

        Args:
            config: the run's.
            root: its URI.
            published: returns what readers see of a cohort's latest run date; None: nothing.
        """
        self._makers: list[tuple[str, Callable[[], Monitor]]] = []
        self._made: dict[str, Monitor] = {}
        settings = config.monitoring
        if settings.metrics_file is not None:
            place = settings.metrics_file
            make = partial(metrics_file.MetricsFile, place, published)
            self._makers.append(("metrics_file", make))
        if settings.openlineage is not None:
            self._makers.append(("openlineage", partial(_lineage, settings.openlineage, root)))
        if settings.mlflow is not None:
            self._makers.append(("mlflow", partial(_tracking, settings.mlflow, root)))

    def began(self, manifest: RunManifest) -> None:
        """Tell everyone that a run goes on."""
        self._tell(lambda monitor: monitor.began(manifest))

    def ended(self, manifest: RunManifest) -> None:
        """Tell everyone how a run has ended."""
        self._tell(lambda monitor: monitor.ended(manifest))

    def _tell(self, say: Callable[[Monitor], None]) -> None:
        for name, make in self._makers:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what a client is made of is no news here
                    if name not in self._made:
                        self._made[name] = make()
                    say(self._made[name])
            except Exception as error:
                # Clients name the address that they were given, with its password.
                log.warning("monitoring.%s was not told: %s", name, redact(unexpected(error)))
                log.debug("the traceback", exc_info=error)


def _lineage(namespace: str, root: str) -> Monitor:
    from recsys.flows.monitoring.lineage import Lineage  # an extra of the package

    return Lineage(namespace, root)


def _tracking(experiment: str, root: str) -> Monitor:
    for name, value in _MLFLOW.items():
        os.environ.setdefault(name, value)
    from recsys.flows.monitoring.tracking import Tracking  # an extra of the package

    return Tracking(experiment, root)
