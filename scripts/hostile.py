"""Hostile values from a seed: texts, YAML, names, ids and lines of CSV. Used by fuzz.py."""

import random
from collections.abc import Callable

# Whatever a value might be made to write, it has this in its name.
MARK = "recsys-fuzz-escaped"

TEXTS = (
    *("", " ", "\t", "\u00a0", "\u3000", "\ufeff", "null", "~", "true", "no", "NULL", "None"),
    *("NaN", "nan", ".nan", ".inf", "-.inf", "Infinity", "1e999", "-1e999", "1e-999", "-0.0"),
    *("0", "-1", "1", "007", "1_000", "0x1F", "0o17", "1:30:00", "1d", "0x1p3", "1e5", "1.0", "+5"),
    *(str(2**31), str(2**63), str(-(2**63) - 1), str(2**64), "9" * 40, "9" * 5000, "0" * 5000),
    *("0x" + "f" * 5000, "0b" + "1" * 20_000, "0" + "7" * 6000, "1:" * 3000 + "1", "1" + "0" * 400),
    *(
        "2020-13-45",
        "2020-02-30",
        "0000-00-00",
        "9999-12-31",
        "2020-01-01T00:00:00Z",
        "10000-01-01",
    ),
    *(".", "..", "/", "//", "../", "~", "~root", "a/b", "a\\b", "C:\\x", "\\\\host\\share", "a:b"),
    *(f"../{MARK}", f"../../{MARK}", f"/tmp/{MARK}", f"../../../../../../tmp/{MARK}"),  # noqa: S108
    *(f"a/../../{MARK}", f"..%2f{MARK}", f"....//{MARK}", f"file:///tmp/{MARK}", f"%2e%2e/{MARK}"),
    *(f"$(touch {MARK})", f"`touch {MARK}`", f"; touch {MARK}", f"| touch {MARK}", "${HOME}"),
    *("{{7*7}}", "${env:HOME}", "%s%n%x", "{0}", "{0.__class__}", "' OR 1=1 --", "`", "*", "?"),
    *("a\nb", "a\rb", "a\r\nrecsys: error: forged", "\x1b[2J\x1b[1;1H", "\x07", "\x7f", "\x9b31m"),
    *(
        "\u2028",
        "\u2029",
        "\u202egnp.exe",
        "\u200b",
        "a\u0301",
        "\u0131",
        "\uff21",
        "\ufb01",
        "\u2100",
    ),
    *(
        "\U0001f600",
        "\U0010ffff",
        "\ufffd",
        "\ufffe",
        "\udcff",
        "\ud800",
        "a\x00b",
        "=",
        "#",
        "'",
        '"',
    ),
    *(
        ",",
        ";",
        "|",
        ",,,,",
        '"a',
        'a"b',
        '""',
        "\\",
        "-",
        "--",
        "--help",
        "-c",
        "@file",
        "[",
        "{",
        "&a",
    ),
    *(
        "a" * 64,
        "a" * 65,
        "a" * 128,
        "a" * 129,
        "a" * 300,
        "a" * 60_000,
        "\u00e9" * 5000,
        ".a",
        "_a",
    ),
    *("s3a://me:hunter2@b/x", "nowhere://x", "http://[::1", "//\u2100.com/x", "hdfs://", "file:x"),
    *("CON", "nul", "a.", "a ", "A", "1a", "__proto__", "__class__", "constructor", "spark.a", "."),
)

YAML = (
    "!!python/object/apply:os.system ['touch MARK']",
    "!!python/object/new:os.system ['touch MARK']",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object:recsys.config.Config {}",
    "!!binary gICA",
    "!!binary '???'",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!pairs [a: 1]",
    "!!timestamp x",
    "!!int x",
    "!!float x",
    "!!bool x",
    "!!null x",
    "!!map x",
    "!!seq x",
    "!!str [a]",
    "!unknown x",
    "!<tag:x> y",
    "&a [*a]",
    "&a {b: *a}",
    "*nowhere",
    "{<<: {a: 1}}",
    "{<<: [1]}",
    "{? [a] : b}",
    "{? {a: b} : c}",
    "{1: 2}",
    "{null: 1}",
    "{2020-01-01: 1}",
    "{.nan: 1}",
    "{true: 1}",
    "{a: 1, a: 2}",
    "[" * 400,
    "{" * 400,
    "[" * 300 + "]" * 300,
    "[" * 1500 + "]" * 1500,
    "{a: " * 300 + "1" + "}" * 300,
    "- " * 800 + "a",
    "? " * 300,
    "|\n a",
    ">9\n a",
    "a: b: c",
    "\tx",
    "%YAML 9.9\n---\n1",
    "%TAG ! x\n---\n1",
    "--- 1\n--- 2\n",
    "...",
    "'unclosed",
    '"\\x00"',
    '"\\ud800"',
    '"\\uDCFF"',
    '"\\N"',
    '"\\q"',
    "@a",
    "%a",
    "[a, b",
    "{a",
    "a" * 200 + ": " + "b" * 70_000,
)

Random = random.Random


def bomb(width: int = 9, depth: int = 9) -> str:
    """Return YAML that is small, and is a billion values once it is written out."""
    lines = [f"&a0 [{', '.join(['x'] * width)}]"]
    lines += [f"&a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
    return "[" + ", ".join(lines) + "]"


def text(rng: Random) -> str:
    """Return a hostile text: one of TEXTS, several, or one that was changed."""
    chosen = rng.choice(TEXTS)
    kind = rng.randrange(5)
    if kind == 0:
        return chosen
    if kind == 1:
        return rng.choice("azAZ09_-./ ") + chosen
    if kind == 2:
        return (chosen + rng.choice(TEXTS))[:100_000]
    place = rng.randrange(min(len(chosen), 200) + 1)
    return chosen[:place] + character(rng) * rng.choice((1, 1, 1, 2, 40)) + chosen[place:]


def character(rng: Random) -> str:
    """Return any character, the odd ones more often."""
    return chr(
        rng.choice(
            (
                rng.randrange(0x20),
                rng.randrange(0x20, 0x7F),
                rng.randrange(0x7F, 0xA0),
                rng.randrange(0xA0, 0x3000),
                rng.randrange(0xD800, 0xE000),
                rng.randrange(0xFE00, 0x11000),
            )
        )
    )


def argument(rng: Random, make: Callable[[Random], str] = text) -> str:
    """Return a text that a process can be started with: no NUL, not too long, other bytes too."""
    chosen = make(rng).replace("\x00", "")[:60_000]
    # What a shell passes on as other bytes than UTF-8 comes as these surrogates, and no others.
    return "".join(c for c in chosen if not "\ud800" <= c <= "\udfff" or "\udc80" <= c <= "\udcff")[
        :60_000
    ]


def yaml_value(rng: Random) -> str:
    """Return YAML of one value."""
    chosen = rng.randrange(10)
    if chosen == 0:
        return bomb()
    if chosen < 5:
        return rng.choice(YAML).replace("MARK", MARK)
    if chosen < 7:
        return '"' + "".join(f"\\U{ord(c):08x}" for c in text(rng)[:200]) + '"'
    return text(rng)


def yaml_file(rng: Random, keys: list[str]) -> bytes:
    """Return a configuration file, or something that is none."""
    kind = rng.randrange(12)
    if kind == 0:
        return rng.randbytes(rng.randrange(200))
    if kind == 1:
        return text(rng).encode(rng.choice(("utf-8", "utf-16", "utf-32", "cp037")), "replace")
    if kind == 2:
        return "\n".join(f"{text(rng)[:50]}{n}: 1" for n in range(60)).encode("utf-8", "replace")
    lines = []
    for _ in range(rng.choice((1, 1, 2))):
        parts = rng.choice(keys).split(".")
        if not rng.randrange(6):
            parts[rng.randrange(len(parts))] = text(rng)[:300]
        opened = "".join(f"{{{part}: " for part in parts[1:])
        lines.append(f"{parts[0]}: {opened}{yaml_value(rng)}{'}' * (len(parts) - 1)}")
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def override(rng: Random, keys: list[str]) -> str:
    """Return what could stand after --set."""
    kind = rng.randrange(8)
    if kind == 0:
        return argument(rng)
    key = rng.choice(keys)
    if kind == 1:
        key = argument(rng)[:500]
    elif kind == 2:
        key = f"{key}.{argument(rng)[:60]}"
    elif kind == 3:
        key = (
            rng.choice(("spark", "input.options", "publishing.iceberg.properties"))
            + "."
            + (argument(rng)[:60])
        )
    return f"{key}={argument(rng, yaml_value)}"


def csv_line(rng: Random) -> str:
    """Return a line for a file with the header user,item,rating,timestamp."""

    def cell(good: str) -> str:
        return good if rng.random() < 0.55 else text(rng)[: rng.choice((5, 50, 3000))]

    kind = rng.randrange(20)
    if kind == 0:
        return text(rng)[:5000]
    cells = [
        cell(f"u{rng.randrange(40)}"),
        cell(f"i{rng.randrange(30)}"),
        cell(str(rng.randrange(1, 6))),
        cell(str(1_600_000_000 + rng.randrange(1000))),
    ]
    if kind == 1:
        cells = cells[: rng.randrange(4)]
    elif kind == 2:
        cells += [text(rng)[:50]] * rng.choice((1, 3, 300))
    elif kind == 3:
        cells = [f'"{one}"' for one in cells]
    return ",".join(cells)
