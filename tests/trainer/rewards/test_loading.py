import sys

import pytest
from triptych_trainer.errors import UsageError
from triptych_trainer.models.families.own import use_own_family
from triptych_trainer.options.own_code import read_tools
from triptych_trainer.rewards import load_reward

OWN = """
import dataclasses
@dataclasses.dataclass
class Helper: x: int = 1
def length(completions, **columns): return [float(len(c)) for c in completions]
limit = 3
"""


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "my_rewards.py"
    path.write_text(OWN)
    return path


def test_known_rewards_with_and_without_options():
    assert load_reward("accuracy")(["b"], answer=["B"]) == [1.0]
    assert load_reward('accuracy(mode="exact")')(["(b)"], answer=["B"]) == [0.0]
    assert load_reward("format()")(["x"]) == [0.0]


def test_a_function_of_a_file(own_file):
    assert load_reward(f"{own_file}:length")(completions=["abc"]) == [3.0]


def test_a_function_of_a_module(own_file, monkeypatch):
    monkeypatch.syspath_prepend(own_file.parent)
    assert load_reward("my_rewards:length")(completions=["abcd"]) == [4.0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("acuracy", r"unknown reward 'acuracy' \(did you mean 'accuracy'\?\); known rewards: accuracy, format"),
        ("zzz", r"unknown reward 'zzz'; known rewards: .*write 'module:function' or 'path/to/file.py:function'"),
        ("accuracy(mode=)", "cannot read the options of reward"),
        ("accuracy('exact')", "options are given by name"),
        ("accuracy(mode=open('x'))", "cannot read the options"),
        ("format(mode='x')", "unknown option 'mode'; it has: none"),
        ("accuracy(mod='x')", "unknown option 'mod'; it has: mode"),
        ("no_such_module_here:f", "cannot import 'no_such_module_here'"),
        (":f", "write 'module:function' or 'path/to/file.py:function'"),
        ("missing/file.py:f", r"no file missing/file.py \(looked from .*\); check the path"),
    ],
)
def test_errors_say_what_to_do(spec, message):
    with pytest.raises(ValueError, match=message):
        load_reward(spec)


def test_errors_about_the_users_file(own_file):
    with pytest.raises(ValueError, match=r"has no 'lenght'; its functions are: length"):
        load_reward(f"{own_file}:lenght")
    with pytest.raises(ValueError, match="expected a function, 'limit' is int"):
        load_reward(f"{own_file}:limit")
    with pytest.raises(ValueError, match="only known rewards take options"):
        load_reward(f"{own_file}:length(x=1)")
    own_file.write_text("import no_such_thing_at_all")
    with pytest.raises(ValueError, match="cannot be loaded: ModuleNotFoundError: No module named"):
        load_reward(f"{own_file}:length")


@pytest.mark.parametrize(("text", "why"), [("raise SystemExit(0)", "SystemExit: 0"), ("1 / 0", "ZeroDivisionError")])
def test_own_code_that_ends_while_it_is_loaded_does_not_end_the_run(own_file, monkeypatch, text, why):
    """The run would end with exit code 0 and without a model."""
    own_file.write_text(text)
    monkeypatch.syspath_prepend(own_file.parent)
    monkeypatch.delitem(sys.modules, own_file.stem, raising=False)
    for place in (own_file, own_file.stem):
        with pytest.raises(ValueError, match=f"{place} cannot be loaded: {why}.*; correct the "):
            load_reward(f"{place}:length")
        with pytest.raises(UsageError, match=f"{place} cannot be loaded: {why}.*; correct the "):
            read_tools([f"{place}:length"])
        with pytest.raises(UsageError, match=rf"{place} cannot be loaded \({why}.*; correct it, or name another"):
            use_own_family(f"{place}:Family")
