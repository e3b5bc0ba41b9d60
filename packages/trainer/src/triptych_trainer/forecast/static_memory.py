"""The memory that does not depend on the batch: weights, gradients, optimizer state, a reference model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import Trainer, TrainingArguments

from triptych_trainer.errors import UsageError
from triptych_trainer.forecast.recorder import Recorder
from triptych_trainer.forecast.skeleton import Skeleton
from triptych_trainer.models.families import family_of
from triptych_trainer.options.arguments import TrainingConfig
from triptych_trainer.options.plan_options import SHARDINGS, Sharding
from triptych_trainer.upstream.torch_names import FakeTensorMode

__all__ = ["StaticMemory", "sharding_of", "static_memory_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticMemory:
    """Contains the bytes on one rank, and the parameters of the whole model."""

    num_parameters: int
    num_vision: int
    num_trainable: int
    weights_bytes: int
    reference_bytes: int
    gradients_bytes: int
    buckets_bytes: int
    """DDP's copy of the gradients."""
    optimizer_bytes: int
    update_bytes: int
    """What the optimizer allocates in addition, only while it steps."""

    @property
    def static_bytes(self) -> int:
        """The bytes that are in use in every phase, from the first optimizer step on."""
        return self.weights_bytes + self.reference_bytes + self.optimizer_bytes + self.buckets_bytes


def sharding_of(args: TrainingArguments) -> Sharding:
    """Return what ``--deepspeed`` and ``--fsdp`` ask for."""
    deepspeed = getattr(args, "hf_deepspeed_config", None)
    stage = int(deepspeed.get_value("zero_optimization.stage", 0)) if deepspeed is not None else 0
    if stage >= 3 or args.fsdp:
        return "full"
    return ("none", "optimizer", "gradients")[stage]  # type: ignore[return-value]


def static_memory_of(
    skeleton: Skeleton, config: TrainingConfig, *, num_ranks: int = 1, sharding: Sharding = "none"
) -> StaticMemory:
    """Count what the run keeps; sharded parts are divided by the ranks, and ZeRO-3 or FSDP gather the largest layer."""
    base = skeleton.base
    family = family_of(base)
    parameters = list({id(p): p for p in skeleton.model.parameters()}.values())
    trainable = [p for p in parameters if p.requires_grad]
    weights = sum(_bytes(p) for p in parameters) - _saved_by_quantization(skeleton, config)
    gradients = sum(_bytes(p) for p in trainable)
    optimizer, update = _optimizer_bytes(config.trl, trainable, fake=skeleton.fake)
    beta = getattr(config.trl, "beta", 0.0) != 0.0
    reference = sum(_bytes(p) for p in base.parameters()) if beta and not isinstance(skeleton.model, PeftModel) else 0
    split = dict.fromkeys(_split(sharding), num_ranks)
    gathered = max((_layer_bytes(module) for module in _layers(base)), default=0) if "weights" in split else 0
    return StaticMemory(
        num_parameters=sum(p.numel() for p in parameters),
        num_vision=sum(p.numel() for p in family.vision_parameters(family.vision_language_model(base))),
        num_trainable=sum(p.numel() for p in trainable),
        weights_bytes=weights // split.get("weights", 1) + gathered * (num_ranks > 1),
        reference_bytes=reference // split.get("weights", 1),
        gradients_bytes=gradients // split.get("gradients", 1),
        buckets_bytes=gradients if num_ranks > 1 and sharding == "none" else 0,
        optimizer_bytes=optimizer // split.get("optimizer", 1),
        update_bytes=update // split.get("optimizer", 1),
    )


def _split(sharding: Sharding) -> tuple[str, ...]:
    names = ("optimizer", "gradients", "weights")
    return names[: SHARDINGS.index(sharding)]


def _layers(base: torch.nn.Module) -> list[torch.nn.Module]:
    lists = [module for module in base.modules() if isinstance(module, torch.nn.ModuleList)]
    return [layer for layers in lists for layer in layers]


def _layer_bytes(module: torch.nn.Module) -> int:
    return sum(_bytes(parameter) for parameter in module.parameters())


def _saved_by_quantization(skeleton: Skeleton, config: TrainingConfig) -> int:
    """4 bits and their scales, or 8 bits, instead of 16 for each linear weight of the language model's layers."""
    share = 1 - 4.5 / 16 if config.model.load_in_4bit else 0.5 if config.model.load_in_8bit else 0.0
    if not share:
        return 0
    family = family_of(skeleton.base)
    text = family.language_model(family.vision_language_model(skeleton.base))
    linear = {
        id(module.weight): module.weight
        for name, module in text.named_modules()
        if isinstance(module, torch.nn.Linear) and "lora_" not in name
    }
    return int(share * sum(_bytes(weight) for weight in linear.values()))


def _optimizer_bytes(
    args: TrainingArguments, parameters: list[torch.nn.Parameter], *, fake: FakeTensorMode
) -> tuple[int, int]:
    """(state, allocated in addition during a step): the run's own optimizer takes one step on shapes alone.

    Optimizers of bitsandbytes need a GPU for that and are counted by name: 8 bits or 32 for each of their moments.
    """
    if not parameters:
        raise UsageError(
            "nothing is trained: every parameter is frozen; leave out --freeze_vision_modules or add --use_peft"
        )
    name = str(getattr(args.optim, "value", args.optim))
    numbers = sum(p.numel() for p in parameters)
    if "8bit" in name or "bnb" in name or "paged" in name:
        return numbers * (1 if "8bit" in name else 4) * (1 if "lion" in name or "rmsprop" in name else 2), 0
    gradients = [p.grad for p in parameters]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
            with fake:
                for parameter in parameters:
                    parameter.grad = torch.empty_like(parameter)
            optimizer = kind(parameters, **options)
            recorder = Recorder(fake, known=[*parameters, *(p.grad for p in parameters if p.grad is not None)])
            with recorder:
                recorder.enter("step")
                optimizer.step()
    except (ImportError, ValueError) as error:
        raise UsageError(f"--optim {name}: {' '.join(str(error).split())}") from error
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
    state = recorder.live
    return state, recorder.peaks["step"] - state


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
