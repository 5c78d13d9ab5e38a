"""Deleting the metadata files of an Iceberg table that nothing refers to any more.

pyiceberg's expiry of snapshots deletes none. Data files are not looked at.
"""

import datetime as dt
import json
import re
from contextlib import suppress
from typing import Any

from pyarrow.fs import FileInfo, FileSelector, FileType
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import read_manifest_list
from pyiceberg.table import Table

# What this library writes: metadata, manifest lists and manifests. Anything else stays.
_OWN = re.compile(
    r"(\d+-[0-9a-f-]{36}\.metadata\.json|(snap-\d+-\d+-)?[0-9a-f-]{36}(-m\d+)?\.avro)"
)


def sweep(table: Table, grace: dt.timedelta) -> list[str]:
    """Delete a table's unneeded metadata files, and return their names.

    What stays: the current metadata file and those that were current within the grace, all that
    any of these refers to, and every file younger than the grace, which may belong to a commit that
    is going on.
    """
    if not isinstance(table.io, PyArrowFileIO):
        return []  # another file system, of which pyiceberg cannot list the files
    folder = table.location_provider().metadata_path
    scheme, netloc, path = PyArrowFileIO.parse_location(folder)
    filesystem = table.io.fs_by_scheme(scheme, netloc)
    since = dt.datetime.now(dt.UTC) - grace
    old = {
        info.base_name: info
        for info in filesystem.get_file_info(FileSelector(path))
        if info.type == FileType.File and _OWN.fullmatch(info.base_name) and _age(info) < since
    }
    needed = _needed(table, since)
    gone = sorted(name for name in old if name not in needed)
    for name in gone:
        with suppress(FileNotFoundError):
            filesystem.delete_file(old[name].path)
    return gone


def _needed(table: Table, since: dt.datetime) -> set[str]:
    """Return the names of the files that recent readers need."""
    recent = {table.metadata_location}
    until = table.metadata.last_updated_ms
    for entry in reversed(table.metadata.metadata_log):
        if until < since.timestamp() * 1000:
            break  # it was followed by another before the grace began
        recent.add(entry.metadata_file)
        until = entry.timestamp_ms
    lists = set()
    for location in recent:
        with suppress(FileNotFoundError), table.io.new_input(location).open() as stream:
            metadata: dict[str, Any] = json.loads(stream.read())
            lists |= {snapshot["manifest-list"] for snapshot in metadata["snapshots"]}
    manifests = set()
    for location in lists:
        with suppress(FileNotFoundError):
            manifests |= {m.manifest_path for m in read_manifest_list(table.io.new_input(location))}
    return {location.rsplit("/", 1)[-1] for location in recent | lists | manifests}


def _age(info: FileInfo) -> dt.datetime:
    """Return when a file was written."""
    written: dt.datetime = info.mtime
    return written
