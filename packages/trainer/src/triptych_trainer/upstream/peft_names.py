"""How PEFT reads a LoRA configuration: of some models it takes names of modules for parameters of experts."""

import copy
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

__all__ = ["as_peft_reads"]


def as_peft_reads(lora: LoraConfig, model: torch.nn.Module) -> Any:
    """Return the configuration with the targets that PEFT will look for; the one that is given stays as it is.

    Modules like ``gate_proj`` were experts of their own in transformers 4, and are slices of one parameter now.
    """
    found = copy.deepcopy(lora)
    convert_peft_config_for_transformers(found, model=model, conversions=None)
    return found
