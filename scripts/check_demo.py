"""Compare what the demo printed with what the README promises: ``python check_demo.py LOG``."""

import re
import sys
from pathlib import Path

BEFORE_AT_MOST, AFTER_AT_LEAST = 0.75, 0.85
"""Held-out accuracy of sampled answers. docs/demo.md has 0.56-0.60 and 0.94-0.99; processors round differently."""


def main(log: str) -> None:
    """End with one sentence if the demo did not learn.

    Raises:
        SystemExit: An accuracy is missing, or is not what is promised.
    """
    text = Path(log).read_text(encoding="utf-8")
    found = dict(re.findall(r"^(before|after) GRPO: .*accuracy greedy [\d.]+, sampled ([\d.]+)", text, re.MULTILINE))
    before, after = (float(found.get(name, "nan")) for name in ("before", "after"))
    if not (before <= BEFORE_AT_MOST and after >= AFTER_AT_LEAST):
        raise SystemExit(
            f"the demo did not learn as docs/demo.md says: held-out accuracy (sampled) {before:g} before and "
            f"{after:g} after, expected at most {BEFORE_AT_MOST} and at least {AFTER_AT_LEAST}"
        )
    print(f"the demo learned: held-out accuracy (sampled) {before:g} before, {after:g} after")


if __name__ == "__main__":
    main(*sys.argv[1:])
