"""A model without memory, built from its config as a run would build it, and shallow versions of it.

What a step allocates is linear in the number of equal layers. A model of 80 layers is traced with two or three of each
kind, and once more with one more of each; the difference is what a layer costs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoConfig
from triptych_data.adapter_folder import adapter_folder

from triptych_trainer.errors import UsageError
from triptych_trainer.forward import install_hooks
from triptych_trainer.forward.attention_choice import known_choice
from triptych_trainer.models.adapters import adapter_config, saved_adapters
from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import freeze_vision_modules, model_without_weights
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.options.arguments import TrainingConfig
from triptych_trainer.upstream.torch_names import FakeTensorMode
from triptych_trainer.upstream.transformers_names import GradientCheckpointingLayer, no_init_weights

__all__ = ["Skeleton", "Stack", "build_skeleton", "shallow", "stacks_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Skeleton:
    """Contains a policy on fake tensors: its parameters have shapes and dtypes and take no memory."""

    model: torch.nn.Module
    """The policy as the trainer calls it: with adapters, frozen parts and checkpointing as the run has them."""
    fake: FakeTensorMode

    @property
    def base(self) -> torch.nn.Module:
        """The transformers model."""
        return unwrap(self.model)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """Contains a list of layers, and says which of them are equal."""

    name: str
    layers: torch.nn.ModuleList
    kinds: tuple[tuple[int, ...], ...]
    """Positions of the layers of each kind."""
    is_text: bool
    """Whether these are the text backbone's layers."""
    reads_others: bool = False
    """Whether layers take keys and values from others by their positions, so that none may be left out."""


def build_skeleton(config: TrainingConfig, *, model_config: Any = None) -> Skeleton:
    """Build the policy of a run on fake tensors: no weights are read, none are allocated.

    Raises:
        UsageError: the folder or hub id has no config of an image-text-to-text model, or a setting cannot be planned.
    """
    if model_config is None:
        model_config = read_model_config(config)
    _let_autograd_count_devices()
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with torch.device("meta"), no_init_weights(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model_without_weights(
            model_config,
            dtype=_dtype(config, model_config),
            attention="eager" if config.model.attn_implementation == "eager" else None,
            trust_remote_code=config.trl.trust_remote_code,
            option=f"--model_name_or_path {config.model.model_name_or_path}",
        )
        model.tie_weights()
        if config.run.freeze_vision_modules:
            freeze_vision_modules(model)
        attention = getattr(config.run, "shared_attention", None)  # sft has no such option
        install_hooks(model, attention=None if attention is None else known_choice(attention))
        lora = adapter_config(config.model, model, freeze_vision=config.run.freeze_vision_modules)
        lora = lora or saved_adapters(config.model, merge=config.run.merge_adapter)
        policy = model if lora is None else get_peft_model(model, lora)
        _make_fake(policy, fake)
        policy.train()
        if config.trl.gradient_checkpointing:
            policy.gradient_checkpointing_enable(config.trl.gradient_checkpointing_kwargs)
            if lora is not None:
                policy.enable_input_require_grads()
    return Skeleton(model=policy, fake=fake)


def _let_autograd_count_devices() -> None:
    """Run a first backward pass on a machine without accelerator, before fake tensors name one that does not exist.

    Autograd counts the devices at the first backward pass, and starts a thread for each. After that no process that is
    forked from this one could run a backward pass, and so a forecast after a plan in the same process would fail.
    """
    if not torch.accelerator.is_available():
        torch.ones((), requires_grad=True).backward()  # type: ignore[no-untyped-call]


def _make_fake(model: torch.nn.Module, fake: FakeTensorMode) -> None:
    """Give every parameter and buffer of a model on the meta device a fake stand-in on the CPU; ties stay."""
    made: dict[int, torch.Tensor] = {}
    with fake:
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    values = torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu")
                    known = made.setdefault(
                        id(parameter), torch.nn.Parameter(values, requires_grad=parameter.requires_grad)
                    )
                    module._parameters[name] = known
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    values = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")
                    module._buffers[name] = made.setdefault(id(buffer), values)


def read_model_config(config: TrainingConfig) -> Any:
    """Return the config of the model that a run names, without its weights."""
    path, revision = config.model.model_name_or_path, config.model.model_revision
    adapters = adapter_folder(path, revision=revision) if path else None
    if adapters is not None:
        path, revision = adapters.base, adapters.base_revision
    try:
        return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=config.trl.trust_remote_code)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--model_name_or_path {path}: no model config can be read: {reason}") from error


def _dtype(config: TrainingConfig, model_config: Any) -> torch.dtype:
    if config.model.load_in_4bit or config.model.load_in_8bit:
        return torch.bfloat16
    if config.model.dtype in (None, "auto"):
        return getattr(model_config, "dtype", None) or torch.float32
    named: torch.dtype = getattr(torch, config.model.dtype)
    return named


def stacks_of(skeleton: Skeleton) -> list[Stack]:
    """Return every list of checkpointable layers of the model, the text backbone's and the towers'."""
    text = _text(skeleton)
    types = getattr(text.config, "layer_types", None) or ()
    found = []
    for name, module in skeleton.base.named_modules():
        if not (isinstance(module, torch.nn.ModuleList) and len(module)):
            continue
        if not all(isinstance(layer, GradientCheckpointingLayer) for layer in module):
            continue
        is_text = module is getattr(text, "layers", None)
        typed = is_text and len(types) == len(module)
        kinds: dict[Any, list[int]] = {}
        for index, layer in enumerate(module):
            kinds.setdefault((_shape(layer), types[index] if typed else None), []).append(index)
        reads_others = is_text and getattr(text.config, "num_kv_shared_layers", 0) > 0
        positions = tuple(map(tuple, kinds.values()))
        found.append(Stack(name=name, layers=module, kinds=positions, is_text=is_text, reads_others=reads_others))
    return found


def _text(skeleton: Skeleton) -> torch.nn.Module:
    family = family_of(skeleton.base)
    return family.language_model(family.vision_language_model(skeleton.base))


def _shape(layer: torch.nn.Module) -> tuple[Any, ...]:
    parameters = ((name, p.shape, p.dtype, p.requires_grad) for name, p in layer.named_parameters())
    return (type(layer), *parameters)


@contextmanager
def shallow(skeleton: Skeleton, kept: Mapping[str, Sequence[int]]) -> Iterator[None]:
    """Leave only the layers ``kept[stack name]`` in each named stack, in order; other stacks stay whole."""
    text = _text(skeleton)
    undo: list[tuple[Any, str, Any]] = []

    def put(target: Any, name: str, value: Any) -> None:
        undo.append((target, name, getattr(target, name)))
        setattr(target, name, value)

    try:
        for name, positions in kept.items():
            owner, _, attribute = name.rpartition(".")
            parent = skeleton.base.get_submodule(owner)
            layers = [getattr(parent, attribute)[position] for position in positions]
            for index, layer in enumerate(layers):
                for module in layer.modules():
                    if isinstance(getattr(module, "layer_idx", None), int):
                        put(module, "layer_idx", index)
            whole = getattr(parent, attribute)
            put(parent, attribute, torch.nn.ModuleList(layers).train(whole.training))
            if whole is getattr(text, "layers", None) or parent is text:
                types = getattr(text.config, "layer_types", None)
                if types is not None and len(types) == len(whole):
                    put(text.config, "layer_types", [types[position] for position in positions])
                put(text.config, "num_hidden_layers", len(positions))
            taken = getattr(parent, "deepstack_visual_indexes", None)  # blocks whose features the first layers get, too
            if taken:
                put(parent, "deepstack_visual_indexes", list(range(len(taken))))
        yield
    finally:
        for target, name, value in reversed(undo):
            setattr(target, name, value)
