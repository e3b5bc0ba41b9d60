"""What the pages show runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from triptych_parser import bind, parse
from triptych_parser.expanders import EXPANDERS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "packages" / "parser" / "README.md", ROOT / "docs" / "markers.md"]


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_examples_run_as_they_stand(path: Path) -> None:
    assert any("assert " in block for block in blocks(path))
    for block in blocks(path):
        exec(compile(block, str(path), "exec"), {})


def test_the_processor_example_works_with_a_processor(qwen: Any, capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {}
    for block in blocks(PAGES[0]):
        exec(block, scope)
    ids = scope["ids_and_spans"](bind(parse("<image> <image>"), 2), qwen)
    first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (first[0], second[0]) == ("0", "1")
    assert ids[int(first[1])] == qwen.tokenizer.convert_tokens_to_ids("<|vision_start|>")


def test_the_page_lists_the_processors_there_are() -> None:
    table = PAGES[1].read_text(encoding="utf-8").partition("## Processors")[2].partition("Any other processor")[0]
    assert sorted(re.findall(r"`(\w+Processor)`", table)) == sorted(EXPANDERS)
    assert f"the processors of {len(EXPANDERS)} classes" in PAGES[0].read_text(encoding="utf-8")
