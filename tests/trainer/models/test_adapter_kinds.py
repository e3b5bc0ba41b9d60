"""Adapters of PEFT other than LoRA: those that change layers are trained, the others are refused in one sentence."""

import peft
import pytest
import torch
from peft import get_peft_model
from triptych_trainer.demo import build_model
from triptych_trainer.errors import UsageError
from triptych_trainer.models.adapters import check_kinds

VIRTUAL = {"task_type": "CAUSAL_LM", "num_virtual_tokens": 2}
REFUSED = {
    "PrefixTuningConfig": (VIRTUAL, "puts virtual tokens before the prompt"),
    "PromptTuningConfig": (VIRTUAL, "puts virtual tokens before the prompt"),
    "PromptEncoderConfig": (VIRTUAL, "puts virtual tokens before the prompt"),
    "MultitaskPromptTuningConfig": (VIRTUAL, "puts virtual tokens before the prompt"),
    "AdaptionPromptConfig": ({"adapter_len": 2, "adapter_layers": 1}, "adds attention to layers"),
    "PolyConfig": ({"target_modules": ["q_proj"]}, "needs the number of a task"),
    "XLoraConfig": ({"hidden_size": 128, "adapters": {}}, "chooses its adapters by a first pass"),
}
TWO = {"target_modules": ["q_proj", "v_proj"]}
TRAINED = {
    "AdaLoraConfig": {**TWO, "total_step": 10},
    "DeloraConfig": {**TWO, "r": 4},
    "HRAConfig": TWO,
    "IA3Config": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "LNTuningConfig": {"target_modules": ["input_layernorm"]},
    "LoHaConfig": TWO,
    "LoKrConfig": TWO,
    "OFTConfig": {**TWO, "oft_block_size": 8, "use_cayley_neumann": False},
    "VeraConfig": {"target_modules": ["q_proj"], "r": 8},
}


@pytest.mark.parametrize("name", REFUSED)
def test_adapters_that_do_not_change_layers_are_refused(make_trainer, write_rows, name):
    options, why = REFUSED[name]
    with pytest.raises(UsageError, match=rf"^peft_config: {name} {why}.*; use adapters that change the layers, for"):
        make_trainer(write_rows([1]), peft_config=getattr(peft, name)(**options))


def test_a_model_that_has_virtual_tokens_is_refused(make_trainer, write_rows):
    model = get_peft_model(build_model(0), peft.PromptTuningConfig(**VIRTUAL))
    with pytest.raises(UsageError, match="^peft_config: PromptTuningConfig puts virtual tokens before the prompt"):
        make_trainer(write_rows([1]), model=model)


def test_ranks_that_nothing_redistributes_are_a_warning():
    with pytest.warns(UserWarning, match="^peft_config: the ranks of AdaLoraConfig are redistributed only where a"):
        check_kinds([peft.AdaLoraConfig(**TRAINED["AdaLoraConfig"])], option="peft_config")


@pytest.mark.slow  # nine small trainings
@pytest.mark.filterwarnings("ignore:peft_config. the ranks", "ignore:Unsupported layer type")
@pytest.mark.parametrize("name", TRAINED)
def test_other_adapters_are_trained_and_compared_at_first_use(make_trainer, write_rows, name):
    """The adapters are moved away from what they begin with, where they change nothing."""
    trainer = make_trainer(
        write_rows([1, 2]),
        peft_config=getattr(peft, name)(**TRAINED[name]),
        beta=0.1,
        max_steps=1,
        per_device_train_batch_size=4,
    )
    trained = {name: values for name, values in trainer.model.named_parameters() if values.requires_grad}
    assert trained
    with torch.no_grad():
        for values in trained.values():
            values.add_(0.1 * torch.randn_like(values))
    before = {name: values.detach().clone() for name, values in trained.items()}
    trainer.train()
    assert any(not torch.equal(before[name], values) for name, values in trained.items())
