"""The words that options may be are those that TRL's code compares them with."""

import ast
from pathlib import Path

import pytest
import trl
from triptych_trainer.options.values import SFT_WORDS, WORDS

SOURCE = Path(trl.__file__).parent
GRPO = "trainer/grpo_trainer.py"
WHERE = {
    ("train", "loss_type"): (GRPO, "loss_type"),
    ("train", "importance_sampling_level"): (GRPO, "importance_sampling_level"),
    ("train", "scale_rewards"): (GRPO, "scale_rewards"),
    ("train", "multi_objective_aggregation"): (GRPO, "multi_objective_aggregation"),
    ("train", "vllm_importance_sampling_mode"): (GRPO, "vllm_importance_sampling_mode"),
    ("train", "vllm_mode"): ("generation/vllm_generation.py", "mode"),
    ("sft", "loss_type"): ("trainer/sft_trainer.py", "loss_type"),
}
"""For each option the file of TRL and the attribute that it compares."""
OWN = {"vllm_importance_sampling_mode": {"sequence_mean_truncate", "sequence_mean_mask"}}
"""What Triptych takes in addition."""
KNOWN = {**{("train", name): words for name, words in WORDS.items()}, ("sft", "loss_type"): SFT_WORDS["loss_type"]}


def compared(file, attribute):
    """Every text that a file compares an attribute of this name with."""
    found = set()
    for node in ast.walk(ast.parse((SOURCE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == attribute:
            others = [part for other in node.comparators for part in getattr(other, "elts", [other])]
            found |= {other.value for other in others if isinstance(other, ast.Constant) and other.value is not None}
    return found


@pytest.mark.parametrize("option", WHERE, ids=" ".join)
def test_the_words_of_an_option_are_those_of_trl(option):
    assert compared(*WHERE[option]) == set(KNOWN[option]) - OWN.get(option[1], set())


def test_every_list_of_words_is_compared():
    assert set(WHERE) == set(KNOWN)
