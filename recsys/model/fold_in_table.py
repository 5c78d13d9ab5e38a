"""A model's fold-in map as a table of one row."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.kernel.fold_in import FoldIn
from recsys.kernel.second_view import SecondView
from recsys.model.manifest import ModelManifest

FOLD_IN_TABLE = "fold_in"

F32 = NDArray[np.float32]


def fold_in_to_table(fold_in: FoldIn) -> pa.Table:
    """Return a fold-in map as a table of one row (FOLD_IN_SCHEMA)."""
    numbers, second = pa.list_(pa.float32()), fold_in.second
    kind = None if second is None else "als" if second.history is None else "ease"
    gram = None if second is None or second.gram is None else second.gram.reshape(-1)
    return pa.table(
        {
            "kind": pa.array([fold_in.kind]),
            "matrix": pa.array([fold_in.matrix.reshape(-1)], numbers),
            "intercept": pa.array([fold_in.intercept], numbers),
            "bias_scale": pa.array([float(fold_in.bias_scale)]),
            "shrinkage": pa.array([float(fold_in.shrinkage)]),
            "second": pa.array([kind], pa.string()),
            "gram": pa.array([gram], numbers),
            "confidence": pa.array([None if second is None else second.confidence], pa.float64()),
            "scale": pa.array([None if second is None else second.scale], pa.float64()),
        }
    )


def fold_in_from_table(table: pa.Table, manifest: ModelManifest, history: F32 | None) -> FoldIn:
    """Turn a table of one row into a fold-in map.

    Args:
        table: FOLD_IN_SCHEMA.
        manifest: the model's.
        history: `(n_items, r)`, what items add to the second part of a user's vector, if they do.

    Raises:
        ModelError: its shape is not the manifest's, or a value is not finite.
    """
    assembly = manifest.training.assembly
    second, width = assembly.second_view, assembly.lightfm_components
    try:
        row = table.to_pylist()[0]
        view = None
        if second is not None:
            size = (second.rank, second.rank)
            gram = None if history is not None else np.array(row["gram"], np.float32).reshape(size)
            view = SecondView(history, gram, row["confidence"], row["scale"])
        return FoldIn(
            kind=row["kind"],
            matrix=np.array(row["matrix"], np.float32).reshape(width, width),
            intercept=np.array(row["intercept"], np.float32),
            bias_scale=row["bias_scale"],
            shrinkage=row["shrinkage"],
            second=view,
        )
    except (IndexError, TypeError, ValueError) as error:
        raise ModelError(
            f"model {manifest.model_id} is damaged: {FOLD_IN_TABLE} is no map of size {width} "
            f"({error}); train again"
        ) from error
