"""The parser that is there at once, compared with the one that has TRL's own classes."""

import re
import sys

import pytest
from triptych_trainer.options.arguments import run_parser
from triptych_trainer.options.light_parser import light_parser
from triptych_trainer.options.run_options import RunArguments
from triptych_trainer.options.sft_arguments import sft_parser
from triptych_trainer.options.sft_options import SftArguments
from triptych_trainer.upstream import option_fields as sources
from triptych_trainer.upstream.option_fields import option_fields

RUNS = {
    "train": (run_parser, RunArguments, ("GRPOConfig", "ModelConfig")),
    "triptych sft": (sft_parser, SftArguments, ("SFTConfig", "ModelConfig")),
}

COMPUTED = ("--log_level", "--log_level_replica")
"""Options whose choices transformers computes: a wrong word is left to the parser of the run."""
TYPES = ("int", "float", "true_or_false", "auto_or_bool")


def read_as(parser):
    """How a parser reads each option: how many words, which ones, and of what type."""
    return {
        name: (
            *(action.dest, action.nargs, action.const),
            None if action.choices is None else [str(choice) for choice in action.choices],
            said if (said := getattr(action.type, "__name__", "")) in TYPES and action.nargs != 0 else "str",
            said in ("int", "float") and action.type not in (int, float) and action.type("none") is None,
        )
        for action in parser._actions
        for name in action.option_strings
        if re.fullmatch(r"--\w+", name)
    }


@pytest.mark.parametrize("command", RUNS)
def test_the_light_parser_reads_every_option_as_that_of_a_run(command):
    full, own, configs = RUNS[command]
    light, run = read_as(light_parser(own, configs, command=command)), read_as(full())
    for name in COMPUTED:
        assert (light[name][3], light.pop(name)[:3]) == (None, run.pop(name)[:3])
    assert light == run


def test_a_source_of_another_form_is_left_to_the_parser_of_the_run(tmp_path, monkeypatch):
    package = tmp_path / "trl" / "trainer"
    package.mkdir(parents=True)
    (tmp_path / "trl" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trl")
    sources._tree.cache_clear()
    assert option_fields("GRPOConfig") is None  # there is no such file
    class_ = "class GRPOConfig"
    for text in (
        f"{class_}(*made()): pass",
        f"{class_}(Unknown): pass",
        f"{class_}(",
        f"{class_}:\n x: 'int'",
        "x: int",
    ):
        (package / "grpo_config.py").write_text(text)
        sources._tree.cache_clear()
        assert option_fields("GRPOConfig") is None, text
    (package / "grpo_config.py").write_text("class GRPOConfig:\n    x: int | None = 3\n")
    sources._tree.cache_clear()
    (field,) = option_fields("GRPOConfig")
    assert (field.name, field.hint, field.default) == ("x", int | None, 3)
