"""Which layers of each family get an adapter by default."""

import pytest
import torch
from peft import get_peft_model
from triptych_trainer.errors import UsageError
from triptych_trainer.models.adapters import adapter_config, language_model_name
from trl import ModelConfig

AS_EXPERTS = {"glm4v_moe": ("gate_proj", "up_proj", "down_proj")}
"""Names of linear layers that PEFT takes for experts."""


def adapted(model, config):
    names = [name for name, _ in get_peft_model(model, config).named_parameters() if ".lora_A." in name]
    return {name.removeprefix("base_model.model.").partition(".lora_A.")[0] for name in names}


def test_every_linear_layer_of_the_language_model_gets_an_adapter_and_no_other_module(kit, family_name):
    model = kit.model()
    text = language_model_name(model)
    modules = model.get_submodule(text).named_modules()
    linear = {f"{text}.{name}" for name, module in modules if isinstance(module, torch.nn.Linear)}
    left_out = AS_EXPERTS.get(family_name, ())
    expected = {name for name in linear if not name.endswith(left_out)} if left_out else linear
    assert adapted(model, adapter_config(ModelConfig(use_peft=True, lora_r=2), model)) == expected


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys did not match:RuntimeWarning")
@pytest.mark.parametrize(
    ("family", "given", "parameters"),
    [
        ("qwen3_vl_moe", {"lora_target_parameters": ["experts.down_proj"]}, "experts.down_proj"),
        ("glm4v_moe", {"lora_target_modules": ["gate_proj", "up_proj", "q_proj"]}, "gate_up_proj"),
    ],
)
def test_dropout_on_adapters_of_parameters_is_refused(kit_of, family, given, parameters):
    model = kit_of(family).model()
    config = ModelConfig(use_peft=True, lora_r=2, **given)
    said = rf"--lora_dropout 0.05: .* of parameters \({parameters}\); add --lora_dropout 0"
    with pytest.raises(UsageError, match=said):
        adapter_config(config, model)
    config.lora_dropout = 0.0
    assert adapted(model, adapter_config(config, model))
