"""Show, for a few households, what they bought most and what is recommended to them.

usage: python scripts/demo_report.py ROOT RUN_ID PRODUCTS

It reads the published tables with pandas alone, as any consumer can.
"""

import json
import sys
from pathlib import Path

import pandas as pd

HOUSEHOLDS = 3
BOUGHT = 5


def read(uri: str, columns: list[str]) -> pd.DataFrame:
    """Read a local Parquet directory."""
    return pd.read_parquet(uri.removeprefix("file:"), columns=columns)


def main(root: Path, run_id: str, products: Path) -> None:
    """Print the report."""
    manifest = json.loads((root / "runs" / run_id / "manifest.json").read_text())
    outputs = manifest["outputs"]
    names = pd.read_parquet(products).set_index("product_id")
    label = names["product_type"].fillna(names["product_category"]).fillna("(no name)")
    label = label.str.capitalize() + ", " + names["department"].fillna("").str.lower()

    lists = read(outputs["recommendations"]["uri"], ["user_id", "rank", "item_id", "score"])
    pairs = read(f"{outputs['interactions']['uri']}/pairs", ["user_id", "item_id", "rating"])
    users = sorted(lists["user_id"].unique())
    chosen = users[:: max(1, len(users) // HOUSEHOLDS)][:HOUSEHOLDS]
    for user in chosen:
        bought = pairs[pairs["user_id"] == user]
        most = bought.sort_values(["rating", "item_id"], ascending=[False, True]).head(BOUGHT)
        recommended = lists[lists["user_id"] == user].sort_values("rank")
        print(f"\nHousehold {user} bought {len(bought)} products, most often")
        for row in most.itertuples():
            print(f"  {row.rating:4.0f} x   {label.get(row.item_id, '(no name)')}  [{row.item_id}]")
        print("and is recommended")
        for row in recommended.itertuples():
            print(f"  {row.rank:4}.    {label.get(row.item_id, '(no name)')}  [{row.item_id}]")
    print(
        f"\n{lists['user_id'].nunique():,} households, {len(lists):,} recommendations in\n"
        f"  {outputs['recommendations']['uri']}\n"
        f"the model in\n  {outputs['model']['uri']}\nand what the run did in\n"
        f"  {root / 'runs' / run_id / 'manifest.json'}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
