"""The private names of TRL's SFT trainer that are used: this test fails when TRL changes one."""

import ast
import inspect

from triptych_trainer.checkpoints import resume
from triptych_trainer.checkpoints.resume import ResumableTrainer
from triptych_trainer.grpo.trl.optimizing import OptimizingTrainer
from triptych_trainer.sft.trl import trainer as module
from triptych_trainer.sft.trl.trainer import MultiImageSFTTrainer
from triptych_trainer.upstream.trl_names import SFT_ATTRIBUTES, SFT_METHODS, WHILE_TRAINING, check_sft_methods
from trl import SFTTrainer

OWN = {"_began", "_seconds_before", "_resumed_from", "_to_verify", "_aside", "_train_sampler"}
"""Attributes of our own trainers that begin with an underscore and that only an instance has."""


def test_the_installed_trl_has_every_method_that_is_overridden():
    check_sft_methods(SFTTrainer)
    overridden = {
        name
        for kind in (MultiImageSFTTrainer, ResumableTrainer, OptimizingTrainer)
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith("__") and hasattr(SFTTrainer, name)
    }
    assert overridden == set(SFT_METHODS)


def test_every_private_name_that_is_read_is_checked():
    methods = {name for kind in (MultiImageSFTTrainer, ResumableTrainer, OptimizingTrainer) for name in vars(kind)}
    known = methods | OWN | {*WHILE_TRAINING, *SFT_METHODS, *SFT_ATTRIBUTES}
    for file in (inspect.getfile(module), inspect.getfile(resume)):
        with open(file, encoding="utf-8") as source:
            nodes = ast.walk(ast.parse(source.read()))
        used = {
            node.attr
            for node in nodes
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        assert {name for name in used if name.startswith("_")} - known - {"_hf_peft_config_loaded"} == set(), file
