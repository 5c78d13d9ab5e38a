"""Names and text in the queries that are proposed."""

import re


def name(column: str) -> str:
    """Return a column's name, or that of a field of one, for a query."""
    return ".".join(
        part if re.fullmatch(r"[A-Za-z_]\w*", part) else "`" + part.replace("`", "``") + "`"
        for part in column.split(".")
    )


def whole_name(column: str) -> str:
    """Return the name of a column that may have dots in it."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", column)
    return column if plain else "`" + column.replace("`", "``") + "`"


def text(value: str) -> str:
    """Return text as a literal of Spark's SQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return "'" + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + "'"


def pattern(separator: str) -> str:
    """Return a literal with the regular expression of a separator.

    Raises:
        ValueError: it is empty, which would split text into its characters.
    """
    if not separator:
        raise ValueError("found an empty separator, expected at least one character")
    # Easier to read in a configuration than a backslash. A class of "^" would be one of nothing.
    plain = separator in ("|", ";", ",", " ")
    return text(f"[{separator}]" if plain else re.escape(separator))
