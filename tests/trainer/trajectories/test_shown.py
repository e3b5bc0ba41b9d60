"""Tools and environments before a run: their schema in `check`, the first observation in `preview`."""

import json
import re

import pytest
from triptych_trainer.cli import main as triptych

CODE = '''
from PIL import Image
from triptych_trainer.trajectories.images import RolloutImages


def look(image: int, parts: list[str], images: RolloutImages, fast: bool = False) -> list:
    """Look
    closer.

    Args:
        image: The number of the image.
        parts: Which
            parts.
        fast: Whether to hurry.
    """
    return []


def bare(image):
    return []


class Grid:
    """Walk."""

    def reset(self, kind, **row):
        if kind == "2 images":
            raise RuntimeError("no such grid")
        return [Image.new("RGB", (56, 84), "green"), {"type": "text", "text": f"You are in {kind}."}]

    def move(self, way: str) -> str:
        """Move.

        Args:
            way: Where to. (choices: ["left", "right"])
        """
        return "ok"
'''


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def test_check_imports_tools_and_shows_what_the_model_is_told(write_rows, code, capsys):
    words = ["check", str(write_rows([1])), "--reward", "format", "--tools", f"{code}:look"]
    assert triptych([*words, "--environment", f"{code}:Grid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:7] == [
        "look: Look closer.",
        "  image (integer): The number of the image.",
        "  parts (array of string): Which parts.",
        "  fast (boolean, may be left out): Whether to hurry.",
        "  images: gets the images of the rollout; the model does not see this parameter",
        "move: Move.",
        "  way (one of left, right): Where to.",
    ]
    assert triptych([*words[:4], "--tools", f"{code}:bare"]) == 2
    assert re.search(r"the tool bare cannot be described to the model .*Args:", capsys.readouterr().err)
    assert triptych([*words[:4], "--tools", f"{code}:nothing"]) == 2
    assert "has no 'nothing'; it has" in capsys.readouterr().err


def test_preview_shows_what_an_environment_shows_first(write_rows, code, tmp_path, capsys):
    out = tmp_path / "page.html"
    rows = str(write_rows([1, 2]))
    assert triptych(["preview", rows, "--reward", "format", "--environment", f"{code}:Grid", "-o", str(out)]) == 1
    page = out.read_text(encoding="utf-8")
    (block,) = re.findall(r'id="rows-0">(.*?)</script>', page, re.DOTALL)
    first, second = json.loads(block)
    assert first["turns"][-1][1][-2:] == [1, "You are in 1 images."]
    assert first["images"][1]["size"] == [56, 84]
    assert second["error"].endswith(
        "`reset` of Grid failed: no such grid; correct the environment, or the columns of the row that it reads"
    )
    assert "move: Move." in capsys.readouterr().out
    assert triptych(["preview", rows, "--reward", "format", "--tool_seconds", "3", "-o", str(out)]) == 2
    assert "--tool_seconds: without --tools and --environment a rollout has one turn" in capsys.readouterr().err


def test_preview_shows_the_list_of_tools_in_its_message_and_counts_it(write_rows, code, model_dir, tmp_path, capsys):
    counted = {}
    for name, words in {"without": [], "with": ["--tools", f"{code}:look"]}.items():
        page = tmp_path / f"{name}.html"
        words = [*words, "--model", str(model_dir), "-o", str(page), "--quiet"]
        assert triptych(["preview", str(write_rows([1, 0])), *words]) == 0
        (index,) = re.findall(r'<script type="application/json" id="index">(.*?)</script>', page.read_text(), re.DOTALL)
        counted[name] = json.loads(index)
    assert counted["without"]["tools"] == []
    ((message, listed),) = counted["with"]["tools"]
    assert message == "system"
    assert listed.startswith("You can call tools.")
    assert '"name": "look"' in listed
    more = [b - a for a, b in zip(counted["without"]["tokens"], counted["with"]["tokens"], strict=True)]
    assert more[0] == more[1] > 50
    (rows,) = re.findall(r'<script type="application/json" id="rows-0">(.*?)</script>', page.read_text(), re.DOTALL)
    assert [row["tools"] for row in json.loads(rows)] == [0, 0]
    assert listed not in rows, "the list is on the page once"
    capsys.readouterr()
    page = tmp_path / "plain.html"
    assert triptych(["preview", str(write_rows([1])), "--tools", f"{code}:look", "-o", str(page), "--quiet"]) == 0
    assert '"tools":[["tools","{' in page.read_text().replace(" ", "")


def test_several_environments_are_named_and_rows_choose_one_of_them(write_rows, code, capsys):
    rows = write_rows([1, 1])
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    named = [{**line, "environment": name} for line, name in zip(lines, "ab", strict=True)]
    rows.write_text("\n".join(map(json.dumps, named)))
    words = ["check", str(rows), "--reward", "format", "--environment"]
    assert triptych([*words, f"a={code}:Grid", f"b={code}:Grid"]) == 0
    assert capsys.readouterr().out.count("move: Move.") == 2
    assert triptych([*words, f"a={code}:Grid"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "rows whose environment is a: move: Move." in out
    assert "expected one of a in the column environment, got 'b'; name the environment of the row there" in out
    for specs, error in (
        ([f"{code}:Grid", f"b={code}:Grid"], "several environments need names"),
        ([f"a={code}:Grid", f"a={code}:Grid"], "there are two environments named a; rename one"),
    ):
        assert triptych([*words, *specs]) == 2
        assert error in capsys.readouterr().err


def test_rows_without_a_prompt_are_those_of_an_environment(code, tmp_path, capsys):
    rows, page = tmp_path / "seeds.jsonl", tmp_path / "page.html"
    rows.write_text('{"kind": "one", "seed": 3}\n{"kind": "one", "seed": 4}\n{"kind": "one", "seed": 3}\n')
    words = [str(rows), "--reward", "format"]
    assert triptych(["check", *words]) == 1
    capsys.readouterr()
    assert triptych(["check", *words, "--environment", f"{code}:Grid"]) == 0
    said = capsys.readouterr().out
    assert f"1 rows repeat an earlier one (they pass)\n  {rows}:3 repeats {rows}:1\n" in said, "another seed is another"
    assert "reference answer" not in said, "its environment says what a rollout was worth"
    assert triptych(["preview", *words, "--environment", f"{code}:Grid", "-o", str(page)]) == 0
    (block,) = re.findall(r'id="rows-0">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    row, _, again = json.loads(block)
    assert (row.get("repeats"), again["repeats"]) == (None, f"{rows}:1")
    assert row["turns"][-1][1] == [0, "You are in one."]
    assert row["notes"] == [], "its image has a place, and its environment says what a rollout was worth"
