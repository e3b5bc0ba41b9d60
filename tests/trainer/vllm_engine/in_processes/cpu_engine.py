"""What TRL's engine needs on a CPU: linear layers that keep their weights, float32. As a script: `train` with it."""

import functools
import sys
from typing import Any

import torch


def keep_linear_weights() -> None:
    """Let CPU linear layers keep their weights, so that weights can be loaded one by one as they are on a GPU."""
    from vllm.model_executor.layers import linear, utils

    def plain(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    for module in (utils, linear):
        if hasattr(module, "dispatch_cpu_unquantized_gemm"):
            module.dispatch_cpu_unquantized_gemm = plain


def prepare() -> Any:
    """Give TRL's engine these options; returns the engine's own class."""
    import trl.generation.vllm_generation as module

    keep_linear_weights()
    stock = module.LLM
    module.LLM = functools.partial(stock, dtype="float32", enforce_eager=True)
    return stock


if __name__ == "__main__":
    from triptych_trainer.cli import train

    prepare()
    sys.exit(train())
