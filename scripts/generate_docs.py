"""Write conf/base.yaml and the parts of the documentation that come from the code.

usage: python scripts/generate_docs.py [--check]

A page holds a generated part between two comments, `<!-- generated: NAME -->` and
`<!-- end of NAME -->`. This script writes what lies between them and leaves the rest alone. With
`--check` it writes nothing, names the pages that are stale, and exits with 1 if there are any.
"""

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel

from recsys import cli, columns, errors
from recsys.cli.examples import EXAMPLES
from recsys.config.reference import render_defaults, render_reference
from recsys.flows.manifest import MANIFESTS
from recsys.kernel import metrics
from recsys.store.manifest import Manifest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SCHEMAS = DOCS / "reference" / "schemas"
DEFAULTS = ROOT / "conf" / "base.yaml"

# What the manifests in a directory of a root describe, one of them.
NAMES = {"models": "model", "publications": "version", "runs": "run"}

_ID_TYPES = dict.fromkeys(("{user}", "{item}", "{id}"), "int, bigint or string")


def commands() -> str:
    """Return every command with its arguments and options."""
    context = click.Context(cli.main, info_name="recsys", **cli.main.context_settings)
    return "\n\n".join(
        _command(command, click.Context(command, info_name=name, parent=context))
        for name, command in cli.main.commands.items()
    )


def _command(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## {context.command_path}", "", inspect.cleandoc(command.help or ""), ""]
    lines += ["```text", usage, "```", "", "| option | meaning |", "|---|---|"]
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Argument):
            names = f"`{parameter.make_metavar(context)}`"
            about = "Required." if parameter.required else "May be left out."
        else:
            assert isinstance(parameter, click.Option)  # noqa: S101 - click has no other kind
            names, about = _option(parameter, context)
        lines.append(f"| {names} | {_cell(about)} |")
    if found := EXAMPLES.get(str(command.name)):
        lines += ["", "```sh", *found, "```"]
    return "\n".join(lines)


def _option(option: click.Option, context: click.Context) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if not option.is_flag:
        names = f"`{', '.join(option.opts)} {option.make_metavar(context)}`"
    about = option.help or ""
    if option.multiple:
        about += " May be repeated."
    if option.required:
        about += " Required."
    elif option.show_default:
        about += f" Default: {option.get_default(context)}."
    return names, about.strip()


def tables() -> str:
    """Return every table: columns, types, nulls, primary key and meaning."""
    return "\n\n".join(_table(name, table) for name, table in described_tables().items())


def described_tables() -> dict[str, dict[str, Any]]:
    """Return what `tables.yaml` says of each table, and the types of its columns.

    Raises:
        ValueError: it does not describe the columns that the table has.
    """
    path = DOCS / "reference" / "tables.yaml"
    described: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, table in described.items():
        schema: str = getattr(columns, table["schema"])
        types = dict(field.split(" ", 1) for field in schema.split(", "))
        table["types"] = {
            column: " ".join(_ID_TYPES.get(kind, kind).split()) for column, kind in types.items()
        }
        if list(table["columns"]) != list(types):
            raise ValueError(
                f"{path}: {name} describes {', '.join(table['columns'])}, expected the columns of "
                f"columns.{table['schema']} in their order: {', '.join(types)}"
            )
        table.setdefault("nullable", {})
        unknown = ({*table["nullable"], *table["key"]}) - {*types}
        if unknown:
            raise ValueError(f"{path}: {name} has no column {', '.join(sorted(unknown))}")
    return described


def _table(name: str, table: Mapping[str, Any]) -> str:
    key = ", ".join(f"`{column}`" for column in table["key"])
    key = f"Primary key: {key}." if key else "It has no primary key."
    # Where a command's --output says, or below the root.
    place = table["place"] if table["place"].startswith("<output>") else f"<root>/{table['place']}"
    lines = [f"## {name}", "", table["about"], "", f"`{place}`", "", key, ""]
    lines += ["| column | type | null when | meaning |", "|---|---|---|---|"]
    for column, kind in table["types"].items():
        null = table["nullable"].get(column, "never")
        lines.append(f"| `{column}` | {kind} | {null} | {_cell(table['columns'][column])} |")
    return "\n".join(lines)


def dbt_source() -> str:
    """Return a dbt source for the published tables, as a block of YAML."""
    described = described_tables()
    published = {name: described[name] for name in ("recommendations", "status")}
    source = {
        "name": "recsys",
        "schema": "recsys",
        "tables": [_dbt_table(name, table) for name, table in published.items()],
    }
    text = yaml.safe_dump(
        {"version": 2, "sources": [source]}, sort_keys=False, width=90, allow_unicode=True
    )
    return f"```yaml\n{text}```"


def _dbt_table(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    listed = []
    for column, about in table["columns"].items():
        entry: dict[str, Any] = {"name": column, "description": about}
        if column not in table["nullable"]:
            entry["data_tests"] = ["not_null"]
        listed.append(entry)
    about = f"{table['about']} Primary key: {', '.join(table['key'])}."
    return {"name": name, "description": about, "columns": listed}


def exit_statuses() -> str:
    """Return every exit status, what it means and what to do."""
    path = DOCS / "reference" / "exit_statuses.yaml"
    described: dict[int, dict[str, str]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    meanings = {
        kind.exit_code: inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
        for kind in errors.RecsysError.__subclasses__()
        if kind.__module__ == errors.__name__
    }
    told = {status for status, entry in described.items() if "meaning" not in entry}
    if told != set(meanings):
        raise ValueError(f"{path} has the statuses {told} of errors, expected {set(meanings)}")
    lines = ["| status | meaning | run it again? | what to do |", "|---|---|---|---|"]
    for status, entry in described.items():
        meaning = entry.get("meaning") or meanings[status]
        lines.append(f"| {status} | {_cell(meaning)} | {entry['retry']} | {entry['action']} |")
    return "\n".join(lines)


def metrics_() -> str:
    """Return the definitions of the metrics, as their module has them."""
    return inspect.cleandoc(metrics.__doc__ or "").partition("\n\n")[2]


def records() -> str:
    """Return the fields of every record, and write nothing where there is no class yet."""
    parts = []
    for name, kind in record_classes().items():
        about = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
        schema = f"JSON schema: [`{name}.json`](schemas/{name}.json)."
        parts.append(f"## {name}\n\n{about} {schema}\n\n{record_fields(kind)}")
    return "\n\n".join(parts)


def record_classes() -> dict[str, type[Manifest]]:
    """Return the classes of the records by the names that the documentation gives them."""
    return {NAMES.get(place, place): kind for place, kind in MANIFESTS.items()}


def record_fields(kind: type[BaseModel]) -> str:
    """Return a record's fields as a table, those of the records inside it with dotted names."""
    schema = kind.model_json_schema(mode="serialization")
    rows = _fields(schema, schema.get("$defs", {}), "")
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])


def _fields(schema: Mapping[str, Any], known: Mapping[str, Any], prefix: str) -> list[str]:
    rows = []
    for name, field in schema.get("properties", {}).items():
        kind, inner = _kind(field, known)
        rows.append(f"| `{prefix}{name}` | {kind} | {_cell(field.get('description', ''))} |")
        if inner is not None:
            mark = "[]" if kind.startswith("list") else ""
            rows += _fields(inner, known, f"{prefix}{name}{mark}.")
    return rows


def _kind(
    field: Mapping[str, Any], known: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any] | None]:
    """Name a field's type in words, and return the schema of the record in it, if it has one."""
    if "$ref" in field:
        inner = known[field["$ref"].rpartition("/")[2]]
        return ("record", inner) if "properties" in inner else _kind(inner, known)
    if "anyOf" in field:
        kinds = [_kind(one, known) for one in field["anyOf"]]
        inner = next((record for _, record in kinds if record is not None), None)
        return " or ".join(kind for kind, _ in kinds), inner
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"]), None
    if "const" in field:
        return f"`{field['const']}`", None
    if field.get("type") == "array":
        kind, inner = _kind(field.get("items", {}), known)
        return f"list of {kind}", inner
    if field.get("type") == "object":
        values = field.get("additionalProperties")
        return ("map of " + _kind(values, known)[0] if isinstance(values, dict) else "map"), None
    return {"integer": "int", "number": "float"}.get(
        field.get("type", ""), field.get("type", "any")
    ), None


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PARTS: dict[str, Callable[[], str]] = {
    "configuration": render_reference,
    "commands": commands,
    "tables": tables,
    "dbt source": dbt_source,
    "exit statuses": exit_statuses,
    "metrics": metrics_,
    "records": records,
}

_MARKED = re.compile(
    r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end of (?P=name) -->)", re.DOTALL
)


def generated() -> dict[Path, str]:
    """Return the content of every file that has a generated part, as it should be."""
    found, written = {}, set()
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        names = [match["name"] for match in _MARKED.finditer(text)]
        if names:
            written |= set(names)
            found[page] = _MARKED.sub(_filled, text)
    if written != set(PARTS):
        raise ValueError(f"the pages have the parts {sorted(written)}, expected {sorted(PARTS)}")
    found[DEFAULTS] = render_defaults()
    for name, kind in record_classes().items():
        schema = kind.model_json_schema(mode="serialization")
        found[SCHEMAS / f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return found


def _filled(match: re.Match[str]) -> str:
    text = PARTS[match["name"]]()
    return f"{match[1]}\n{text}\n\n{match[3]}" if text else match[1] + match[3]


def stale() -> list[Path]:
    """Return the files that are not what the code says."""
    wanted = generated()
    left_over = set(SCHEMAS.glob("*.json")) - set(wanted)
    differ = [path for path, text in wanted.items() if not path.exists() or _read(path) != text]
    return sorted([*differ, *left_over])


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Write nothing; name the pages that are stale.")
def main(check: bool) -> None:
    old = stale()
    for path in old:
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
    if check:
        sys.exit(1 if old else 0)
    wanted = generated()
    for path in old:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()


if __name__ == "__main__":
    main()
