"""docs/add-a-family.md shows the adapter that is in the package, and names every member an adapter can override."""

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
