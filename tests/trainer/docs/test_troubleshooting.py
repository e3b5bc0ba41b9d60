"""Every message that docs/troubleshooting.md says Triptych gives is still one that the source can give."""

import ast
import re

import pytest

from .commands import ROOT

DOCUMENT = ROOT / "docs" / "troubleshooting.md"
GAP = "…"


def templates() -> str:
    """All texts of the packages' sources, one a line, with a gap for everything filled in later."""
    found = []
    for path in sorted((ROOT / "packages").glob("*/src/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else GAP for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(" ".join(text.split()) for text in found)


def quoted() -> list[str]:
    """The first cell of each row of the tables under "Triptych says"."""
    own = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    rows = [row for part in own if part.startswith("Triptych says") for row in re.findall(r"^\| (.*?) \| ", part, re.M)]
    return [row for row in rows if row.startswith("`")]


def pieces(cell: str) -> list[str]:
    """The stretches of a message between its gaps that are long enough to tell it from others."""
    text = cell.strip("`").replace("` `", GAP).replace("\\|", "|")
    return [piece for part in text.split(GAP) if len(piece := part.strip(" ;:,()")) > 3]


@pytest.fixture(scope="module")
def source() -> str:
    return templates()


def test_every_message_is_in_the_source(source: str) -> None:
    """One test for all messages: where they are tests, each worker of pytest-xdist reads all sources."""
    assert [message for message in quoted() if not pieces(message)] == []
    gone = [(message, piece) for message in quoted() for piece in pieces(message) if piece not in source]
    assert gone == [], "no message of the source contains these pieces"


def test_the_page_covers_the_edges() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(quoted()) > 40
    for famous in ("Image features and image tokens do not match", "fetch_images", "out of memory", "NCCL"):
        assert famous in text.split("## Other stacks say")[1]


def test_a_message_that_is_gone_is_noticed(source: str) -> None:
    assert "a message that nobody gives" not in source
    assert [piece for piece in pieces("`marker … has no picture`") if piece not in source] == ["has no picture"]
