"""docs/add-a-family.md shows the adapter of the package and names every member; docs/families.md has every family."""

import inspect
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
    lines = (DOCUMENT.parent / "families.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    types = {row[0] for row in rows}
    registered = {name for family in FAMILIES for name in family.model_types}
    assert types == registered, "run tests/trainer/families/write_table.py"
    notes = [row[1] for row in rows]
    assert sorted(notes) == sorted(case.note for case in kits.CASES.values())
    for _, note, path, logps, gradients, greedy, command, _, adapter in rows:
        assert max(float(logps), float(gradients)) < 1e-5, note
        assert (greedy, command) == ("yes", "yes"), note
        assert path in ("packed", "cache", "plain")
        assert adapter in {type(family).__name__ for family in FAMILIES}
