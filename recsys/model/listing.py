"""The models of a root: which there are, and which is the latest. No Spark."""

import logging

from recsys.errors import ModelError, OutputError
from recsys.model.manifest import ModelManifest, read_model_manifest
from recsys.store.files import Files
from recsys.store.manifest import MANIFEST, Part

MODELS = "models"
LATEST = "latest"  # no model has this id: theirs end in a hash

_SHOWN = 5

log = logging.getLogger(__name__)


class ModelSummary(Part):
    """One model of a root. What is not known of one that cannot be used is null."""

    model_id: str
    """Its id."""
    created_at: str | None = None
    """When the run that trained it began, ISO 8601 in UTC."""
    run_date: str | None = None
    """The day that this run worked for."""
    users: int | None = None
    """Users of the model, with those that have nothing but features."""
    items: int | None = None
    """Items of the model, likewise."""
    components: int | None = None
    """Size of the embeddings."""
    epochs: int | None = None
    """Epochs that made the model."""
    validation_ndcg: float | None = None
    """nDCG of early stopping at the kept epoch; null without early stopping."""
    bytes: int | None = None
    """Size of its data files."""
    refresh_of: str | None = None
    """The model that was trained, where this one is a refresh of it; null for a training."""
    error: str | None = None
    """Why it cannot be used; null for a complete model."""


def list_models(files: Files) -> list[ModelSummary]:
    """Return the models of a root, the newest first (equally new ones by id, the last first).

    Those whose manifest cannot be read come last.
    """
    found = [_summary(files, name) for name in files.names(files.uri(MODELS))]
    return sorted(found, key=_newness, reverse=True)


def latest_model(files: Files, option: str = "--model", *, trained: bool = False) -> str:
    """Return the id of the newest complete model of a root.

    Args:
        files: the root.
        option: of the command line, for messages.
        trained: whether to pass over models that are refreshes of others.

    Raises:
        ModelError: there is none.
    """
    models = [one for one in list_models(files) if one.refresh_of is None or not trained]
    chosen = next((model for model in models if model.error is None), None)
    for model in models:
        undated = model.created_at is None
        if model.error is not None and (
            not chosen or undated or _newness(model) > _newness(chosen)
        ):
            log.warning("model %s is passed over: %s", model.model_id, model.error)
    if chosen is None:
        raise ModelError(
            f"{option} {LATEST}: there is no complete model in {files.uri(MODELS)}; train one with "
            "recsys train"
        )
    return chosen.model_id


def check_known(files: Files, model_id: str, option: str = "--model") -> None:
    """Refuse a model that is not there, and say which are; `option` is for the message.

    Raises:
        ModelError: there is no such directory.
    """
    if not files.exists(files.uri(MODELS, model_id)):
        raise ModelError(
            f"{option}: there is no model {model_id} in {files.uri(MODELS)}; {_known(files)}"
        )


def _known(files: Files) -> str:
    models = [model for model in list_models(files) if model.error is None]
    if not models:
        return "there is none; train one with recsys train"
    shown = ", ".join(f"{model.model_id} ({model.run_date})" for model in models[:_SHOWN])
    more = f" and {len(models) - _SHOWN:,} more" if len(models) > _SHOWN else ""
    return f"there are (newest first): {shown}{more}; see recsys models"


def _newness(model: ModelSummary) -> tuple[str, str]:
    return model.created_at or "", model.model_id  # ISO 8601 in UTC is in order as text


def _summary(files: Files, name: str) -> ModelSummary:
    uri = files.uri(MODELS, name)
    try:
        manifest = read_model_manifest(files.read(f"{uri}/{MANIFEST}"), name)
    except FileNotFoundError:
        return ModelSummary(model_id=name, error=f"there is no {MANIFEST}")
    except (ModelError, OutputError) as error:  # or it is a file, or may not be read
        return ModelSummary(model_id=name, error=str(error))
    missing = _missing(files, uri, manifest)
    early = manifest.training.early_stopping
    return ModelSummary(
        model_id=name,
        created_at=manifest.created_at,
        run_date=manifest.run_date,
        users=manifest.n_users,
        items=manifest.n_items,
        components=manifest.no_components,
        epochs=manifest.training.epochs,
        validation_ndcg=None if early is None else early.ndcg,
        bytes=sum(file.bytes for _, table in manifest.written() for file in table.files),
        refresh_of=manifest.refresh_of,
        error=None if missing is None else f"{missing} is missing",
    )


def _missing(files: Files, uri: str, manifest: ModelManifest) -> str | None:
    """Return a file that the manifest names and that is not there; loading compares contents."""
    for name, table in manifest.written():
        for file in table.files:
            if not files.exists(f"{uri}/{name}/{file.path}"):
                return f"{name}/{file.path}"
    return None
