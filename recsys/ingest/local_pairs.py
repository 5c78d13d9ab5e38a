"""The pairs of prepared interactions in a local root, read without Spark."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.columns import ITEM, LABEL, RATING, TIMESTAMP, USER
from recsys.errors import ModelError
from recsys.ingest.manifest import InteractionsManifest
from recsys.store.manifest import MANIFEST, ManifestError

ARROW = {"int": pa.int32(), "bigint": pa.int64(), "string": pa.string()}  # types of ids
_COLUMNS = [USER, ITEM, RATING, LABEL]


def read_local_pairs(
    folder: Path,
    users: pa.Array | None = None,
    items: pa.Array | None = None,
    *,
    timestamps: bool = False,
) -> pa.Table:
    """Return `user_id`, `item_id`, `rating` and `label` of pairs, in any order.

    Args:
        folder: `interactions/<id>` of a local root.
        users: only those of these users; None: all.
        items: only those of these items; None: all.
        timestamps: also return `timestamp`.

    Raises:
        ModelError: they are not there, or their manifest is damaged or of a newer version.
    """
    try:
        manifest = InteractionsManifest.from_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"there are no interactions {folder.name} in {folder.parent}; restore them, or train "
            "and score again"
        ) from None
    except ManifestError as error:
        raise ModelError(f"{folder / MANIFEST} cannot be used: {error}") from error
    kinds = dict(zip((USER, ITEM), _kinds(manifest), strict=True))
    chosen = None
    for name, ids in ((USER, users), (ITEM, items)):
        if ids is not None:
            wanted = pc.field(name).isin(ids.cast(kinds[name]))
            chosen = wanted if chosen is None else chosen & wanted
    parts, columns = [], [*_COLUMNS, *([TIMESTAMP] if timestamps else [])]
    for file in manifest.tables.pairs.files:
        place = folder / "pairs" / file.path
        try:  # the filter is applied while a file is read, so that its other rows are never held
            part = pq.read_table(place, columns=columns, partitioning=None, filters=chosen)
        except (OSError, pa.ArrowException) as error:
            raise ModelError(f"interactions {folder.name}: cannot read {file.path}") from error
        parts.append(part)
    if parts:
        return pa.concat_tables(parts)
    types = [*_kinds(manifest), pa.float64(), pa.int8(), pa.timestamp("us", "UTC")]
    return pa.schema(list(zip(columns, types, strict=False))).empty_table()


def _kinds(manifest: InteractionsManifest) -> list[pa.DataType]:
    """Return the types of the ids of users and of items."""
    return [ARROW[manifest.id_types.user], ARROW[manifest.id_types.item]]
