"""`--limit`, which means the same in every command: only the first rows are read, and 0 stands for all rows."""

__all__ = ["LIMIT", "num_first"]

LIMIT = {"metavar": "N", "help": "look at the first N rows only; 0: all"}
"""How the option is explained."""


def num_first(total: int, limit: int) -> int:
    """Return how many of all rows a limit leaves; 0 leaves all of them."""
    return min(limit, total) if limit else total
