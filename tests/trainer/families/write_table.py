"""Write the table of docs/families.md from what the families' tests measure.

    python tests/trainer/families/write_table.py

It builds every tiny model with its real processor, compares it with the stock model, runs `train` on it, and replaces
what is between the two marks in the document.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[2] / "docs" / "families.md"
BEGIN, END = "<!-- table: written by tests/trainer/families/write_table.py -->", "<!-- end of the table -->"
HEAD = (
    "| model type | what it stands for | path | log-probabilities | gradients | greedy tokens equal | `train` runs "
    "| router loss | adapter |",
    "|---|---|---|---:|---:|---|---|---|---|",
)


def main() -> int:
    """Measure, print and write every row; 1 where a family is not exact."""
    sys.path.insert(0, str(HERE))
    import kits
    from kits.measure import measure

    lines, good = list(HEAD), True
    for name, case in kits.CASES.items():
        row = measure(case)
        yes = {True: "yes", False: "no"}
        lines.append(
            f"| `{row.model_type}` | {row.note or '-'} | {row.path} | {row.logps:.0e} | {row.gradients:.0e} | "
            f"{yes[row.greedy]} | {yes[row.command]} | {row.router_loss} | `{row.adapter}` |"
        )
        print(f"{name}: {lines[-1]}", flush=True)
        good = good and row.logps < 1e-5 and row.gradients < 1e-5 and row.greedy and row.command
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
