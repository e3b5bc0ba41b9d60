"""docs/add-a-family.md shows the adapter of the package and names every member; docs/families.md has every family."""

import inspect
import re
from pathlib import Path

from triptych_trainer.models.families import FAMILIES, Family, mistral3

DOCUMENT = Path(__file__).parents[3] / "docs" / "add-a-family.md"


def test_the_worked_example_is_the_adapter_in_the_package():
    source = inspect.getsource(mistral3).rstrip()
    assert f"```python\n{source}\n```" in DOCUMENT.read_text()
    assert any(isinstance(family, mistral3.Mistral3Family) for family in FAMILIES)


def test_every_overridden_member_is_in_the_table():
    text = DOCUMENT.read_text()
    overridden = {
        name
        for family in FAMILIES
        for base in type(family).__mro__[:-2]
        for name in vars(base)
        if not name.startswith("_") and hasattr(Family, name)
    }
    missing = {name for name in overridden if f"| `{name}` |" not in text}
    assert missing <= {"encode"}
    assert "model_types" in overridden


def test_the_table_of_families_has_a_good_row_for_every_case_and_every_model_type(kits):
    rows = kits.stated_rows()
    registered = {name for family in FAMILIES for name in family.model_types}
    assert {row["model_type"] for row in rows.values()} == registered, "run make families"
    assert list(rows) == [case.note for case in kits.CASES.values()], "run make families"
    for note, row in rows.items():
        assert max(float(row["logps"]), float(row["gradients"])) < 1e-5, note
        assert (row["greedy"], row["command"]) == ("yes", "yes"), note


def test_the_table_of_families_was_written_with_the_pinned_versions(kits):
    pinned = (DOCUMENT.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    transformers, trl, torch = (
        re.search(rf'"{name}==([\d.]+)"', pinned)[1] for name in ("transformers", "trl", "torch")
    )
    line = f"with transformers {transformers}, TRL {trl} and torch {torch}.\n"
    assert line in kits.DOCUMENT.read_text(encoding="utf-8"), "run make families"


def test_a_row_that_is_not_current_is_found(kits):
    row = next(iter(kits.stated_rows().values()))
    said = {"path": row["path"], "logps": float(row["logps"]) * 3, "greedy": True}
    assert kits.differences(row, said) == []
    assert kits.differences(row, {"path": "plain"}) == [f"path: {row['path']} is written, plain measured"]
    assert kits.differences(row, {"command": False}) == ["command: yes is written, no measured"]
    assert kits.differences(row, {"gradients": 1e-3}) == [f"gradients: {row['gradients']} is written, 1e-03 measured"]
