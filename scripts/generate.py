"""Make the files that follow from the code: `python scripts/generate.py [--check]`.

With --check nothing is written, and the exit status is 1 if a file is not what the code says.
"""

import sys
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from recsys.config.reference import render_defaults


def made() -> dict[Path, str]:
    """Return the content of each file that is made from the code."""
    return {ROOT / "conf/base.yaml": render_defaults()}


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a file is stale.")
def main(check: bool) -> None:
    """Make the files that follow from the code."""
    stale = []
    for path, content in made().items():
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            stale.append(path)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
    for path in stale:
        click.echo(f"{'stale' if check else 'made'}: {path.relative_to(ROOT)}")
    sys.exit(1 if check and stale else 0)


if __name__ == "__main__":
    main()
