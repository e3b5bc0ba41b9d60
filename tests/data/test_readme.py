"""The README's examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from triptych_data.formats import FORMATS
from triptych_data.formats import columns as named
from triptych_data.formats.turns import ROLES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", ["packages/data/README.md", "docs/formats.md"])
def test_python_blocks_run(document: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, document, "exec"), namespace)


def test_the_page_of_formats_names_every_format_column_and_role() -> None:
    page = (ROOT / "docs" / "formats.md").read_text()
    groups = (
        named.CONVERSATIONS,
        named.QUESTIONS,
        named.IMAGES,
        named.ANSWERS,
        named.SYSTEM,
        named.OPTIONS,
        named.PIXELS,
    )
    for name in (*FORMATS, *(name for group in groups for name in group), *(set(ROLES) - {"observations"})):
        assert f"`{name}`" in page, name
