"""Adapters of the user's own: from Python, and on the command line."""

import pytest
from triptych_trainer.errors import UsageError
from triptych_trainer.forward.choose import sharing_path
from triptych_trainer.forward.verify import SharingWarning
from triptych_trainer.models.families import Family, by_model_type, family_of, register_family, use_own_family

SLOW_LLAVA = """
from triptych_trainer.models.families.llava import LlavaFamily

class SlowLlava(LlavaFamily):
    model_types = ("llava",)
    path = "plain"

class Nameless(LlavaFamily):
    model_types = ()

number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file with an adapter; what a test registers is forgotten behind it."""
    monkeypatch.setattr(by_model_type, "_own", [])
    path = tmp_path / "mine.py"
    path.write_text(SLOW_LLAVA)
    return path


def test_a_registered_adapter_serves_its_types_before_the_table(own, kit_of):
    model = kit_of("llava").model()
    before = family_of(model)
    use_own_family(f"{own}:SlowLlava")
    assert type(family_of(model)).__name__ == "SlowLlava"
    assert sharing_path(model) == "plain"
    register_family(before)
    assert family_of(model) is before


@pytest.mark.slow
def test_the_command_takes_one(own, folder_of, rows, train, order, tmp_path, capsys):
    with pytest.warns(SharingWarning, match="the adapter of llava does not share prompts"):
        code = train(folder_of("llava"), rows((1, 2, 1, 1)), order, tmp_path / "out", "--family", f"{own}:SlowLlava")
    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.py", "expected module:Class or path/to/file.py:Class"),
        ("none.py:Family", r"none\.py cannot be loaded \(FileNotFoundError: no such file"),
        ("no_such_module:Family", r"no_such_module cannot be loaded \(ModuleNotFoundError"),
        ("{own}:number", r"expected a class that derives from .*Family, got number = 3"),
        ("{own}:Other", "got Other = None"),
        ("{own}:Nameless", "names no model_types"),
    ],
)
def test_what_is_no_adapter_is_refused(own, spec, message):
    with pytest.raises(UsageError, match=f"--family .*{message}"):
        use_own_family(spec.format(own=own))


def test_an_adapter_without_types_is_refused():
    with pytest.raises(ValueError, match="Family names no model_types"):
        register_family(Family())
