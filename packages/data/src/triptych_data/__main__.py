"""`python -m triptych_data check FILE...`"""

from __future__ import annotations

import sys

from triptych_data.check import main

if __name__ == "__main__":
    if sys.argv[1:2] != ["check"]:
        print("usage: python -m triptych_data check FILE...", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[2:]))
