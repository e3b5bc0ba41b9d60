"""One real group-shared policy pass on the heaviest micro-batch, on the device that is there."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftModel, get_peft_model

from triptych_trainer.forecast.forecast import Forecast, Subject
from triptych_trainer.forecast.peak_memory import PeakMemory
from triptych_trainer.forecast.row_costs import group_batch
from triptych_trainer.forward import GroupBatch, install_hooks
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.models.adapters import adapter_config
from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import freeze_vision_modules, load_model
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.trl_names import add_fused_lm_head

__all__ = ["Measured", "calibrate"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Describes a pass that was run."""

    device: str
    seconds: float
    allocated_bytes: int | None
    """The rise during the pass, gradients being there before."""
    flops: float
    forecast_bytes: int

    @property
    def tflops(self) -> float:
        """Counted operations over measured seconds."""
        return self.flops / self.seconds / 1e12


def calibrate(subject: Subject, planned: Forecast) -> Measured:
    """Load the model, run the policy pass twice, and measure the second.

    Raises:
        UsageError: the model's weights cannot be loaded.
    """
    phase = planned.phase("policy")
    assert phase is not None
    config = subject.config
    device = torch.device("cpu")
    if torch.accelerator.is_available() and not config.grpo.use_cpu:
        device = torch.accelerator.current_accelerator() or device
    model = _trained_model(subject).to(device)
    install_hooks(model)
    batch = group_batch(
        phase.rows,
        counter=subject.counter,
        family=family_of(unwrap(model)),
        group_sizes=planned.step.group_sizes[: len(phase.rows)],
        completion_tokens=planned.step.completion_tokens,
        turns=subject.turns,
    )
    precision = torch.bfloat16 if config.grpo.bf16 else torch.float16 if config.grpo.fp16 else None
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    if precision is not None:
        autocast = partial(torch.autocast, device.type, dtype=precision)
    engine = GroupEngine(
        temperature=config.grpo.temperature,
        share_prompts=config.run.group_sharing != "off",
        completions_per_slice=config.run.completions_per_slice,
        autocast=autocast,
        verify=False,
        fused_lm_head=device.type == "cuda",
    )
    _policy_pass(model, batch, engine)  # libraries make their buffers, gradients appear
    meter = PeakMemory(device)
    start = time.perf_counter()
    _policy_pass(model, batch, engine)
    if device.type != "cpu":
        torch.accelerator.synchronize()
    seconds = time.perf_counter() - start
    return Measured(
        device=device.type,
        seconds=seconds,
        allocated_bytes=meter.rise(),
        flops=phase.flops,
        forecast_bytes=phase.allocated_bytes,
    )


def _trained_model(subject: Subject) -> torch.nn.Module:
    config = subject.config
    assert config.model.model_name_or_path is not None
    model = load_model(
        config.model.model_name_or_path,
        config.model,
        trust_remote_code=config.grpo.trust_remote_code,
        merge_adapter=config.run.merge_adapter,
    )
    if config.run.freeze_vision_modules:
        freeze_vision_modules(model)
    if torch.cuda.is_available() and not config.grpo.use_cpu:
        add_fused_lm_head(unwrap(model), temperature=config.grpo.temperature, outputs=("log_probs", "entropy"))
    lora = adapter_config(config.model, model, freeze_vision=config.run.freeze_vision_modules)
    policy: Any = model if lora is None else get_peft_model(model, lora)
    policy.train()
    if config.grpo.gradient_checkpointing:
        policy.gradient_checkpointing_enable(config.grpo.gradient_checkpointing_kwargs)
        if isinstance(policy, PeftModel):
            policy.enable_input_require_grads()
    return policy  # type: ignore[no-any-return]


def _policy_pass(model: torch.nn.Module, batch: GroupBatch, engine: GroupEngine) -> None:
    logps_BC = engine.logps(model, batch, keys=range(len(batch.prompts)), compute_entropy=True).logps_BC
    (-torch.exp(logps_BC - logps_BC.detach()).sum()).backward()
