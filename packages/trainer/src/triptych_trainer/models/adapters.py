"""LoRA and QLoRA: which modules get an adapter, and what quantized weights need."""

import importlib.util
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from peft.utils import load_peft_weights
from safetensors import SafetensorError
from triptych_data.adapter_folder import adapter_folder
from trl import ModelConfig, get_peft_config

from triptych_trainer.errors import UsageError
from triptych_trainer.models.adapter_targets import check_below, check_names
from triptych_trainer.models.families import family_of
from triptych_trainer.upstream.peft_names import as_peft_reads

__all__ = [
    "adapter_config",
    "check_kinds",
    "check_merge",
    "check_quantization",
    "check_stored_quantization",
    "given_adapters",
    "language_model_name",
    "outside_language_model",
    "saved_adapters",
    "with_adapters",
]

_WHY_NOT: Mapping[str, str] = {
    "ADAPTION_PROMPT": "adds attention to layers that PEFT knows of a few text models only",
    "POLY": "needs the number of a task with each call of the model, which rows do not have",
    "XLORA": "chooses its adapters by a first pass over the whole input, and completions of one prompt share theirs",
}
"""Kinds of adapters that are not trained here, next to those that put virtual tokens before the prompt."""


def adapter_config(config: ModelConfig, model: torch.nn.Module, *, freeze_vision: bool = False) -> LoraConfig | None:
    """Return the LoRA configuration of a run, or None without ``--use_peft``.

    Without ``--lora_target_modules`` every linear layer of the language model gets an adapter and no other module
    does: the vision tower stays as it is, so that its features are computed once for all passes. Where PEFT takes the
    names of linear layers for those of experts (GLM-4.5V), only the other linear layers get one. With the option the
    named modules get one wherever they are, outside the language model only unless ``freeze_vision``.

    Raises:
        UsageError: the language model has no linear layer to adapt, a name in the option fits no module, or parameters
            get adapters that have no dropout.
    """
    lora = get_peft_config(config)
    if lora is None:
        return None
    if isinstance(lora.target_modules, str) and re.fullmatch(r"[\w.]+", lora.target_modules):
        lora.target_modules = [lora.target_modules]  # TRL makes a text of one name, and PEFT reads a text as a pattern
    text = language_model_name(model)
    if lora.target_modules is None and not config.lora_target_parameters:
        lora.target_modules = _linear_layers(model, text=text)
        freeze_vision = True
    if freeze_vision:
        lora.exclude_modules = rf"(?!{re.escape(text)}\.).*"
    if config.lora_target_modules is not None:
        check_names(lora.target_modules, model, option="--lora_target_modules")
        if freeze_vision:
            check_below(lora.target_modules, model.get_submodule(text), text=text)
    check_names(config.lora_modules_to_save, model, option="--lora_modules_to_save")
    if lora.lora_dropout and (parameters := as_peft_reads(lora, model).target_parameters):
        raise UsageError(
            f"--lora_dropout {lora.lora_dropout:g}: PEFT has no dropout for adapters of parameters "
            f"({', '.join(sorted(parameters))}); add --lora_dropout 0"
        )
    return lora


def check_kinds(configs: Iterable[PeftConfig], *, option: str) -> None:
    """Check that adapters change the layers of the model, which is what the shared passes and vLLM's copies work with.

    Raises:
        UsageError: names a kind that does something else.
    """
    for config in configs:
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        why = _WHY_NOT.get(kind)
        if config.is_prompt_learning:
            why = "puts virtual tokens before the prompt, and no image's place in the prompt counts them"
        if why is not None:
            raise UsageError(
                f"{option}: {type(config).__name__} {why}; use adapters that change the layers, for example "
                "LoraConfig(target_modules='all-linear')"
            )
        if kind == "ADALORA":
            warnings.warn(
                f"{option}: the ranks of AdaLoraConfig are redistributed only where a callback calls "
                "update_and_allocate, and its orthogonality term is not in the loss, both as in TRL; LoraConfig needs "
                "neither",
                stacklevel=3,
            )


def given_adapters(model: Any, peft_config: PeftConfig | None) -> list[PeftConfig]:
    """Return the configurations of the adapters that a model has or will get."""
    own = getattr(model, "peft_config", None) or {}
    return [*([] if peft_config is None else [peft_config]), *(own.values() if isinstance(own, Mapping) else ())]


def with_adapters(
    model: torch.nn.Module, path: str, *, merge: bool = False, option: str = "--model_name_or_path"
) -> torch.nn.Module:
    """Put the adapters of a folder on their model, to be trained further; with ``merge`` into its weights.

    Raises:
        UsageError: they do not fit the model.
    """
    try:
        adapted = PeftModel.from_pretrained(model, path, is_trainable=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise UsageError(
            f"{option} {path}: its adapters cannot be put on {type(model).__name__}: {_why_not(error)}"
        ) from error
    check_kinds(adapted.peft_config.values(), option=f"{option} {path}")
    _check_all_read(adapted, path, option=option)
    if not merge:
        return adapted
    merged: torch.nn.Module = adapted.merge_and_unload()
    return merged.requires_grad_(True)


_OTHER_SIZE = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\(\[([\d, ]*)\]\) from checkpoint, "
    r"the shape in current model is torch\.Size\(\[([\d, ]*)\]\)"
)
_OTHER_BASE = (
    "they were trained on another model; write that model into adapter_config.json as base_model_name_or_path, or "
    "begin new adapters on this one: --use_peft with the model itself as --model_name_or_path"
)


def _why_not(error: Exception) -> str:
    """What PEFT or safetensors says in a line, or in many, as one sentence with what to do."""
    reason = " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"its adapter_config.json has {reason}, which this version of PEFT does not know"
    if isinstance(error, SafetensorError):
        return f"the file of its weights is damaged ({reason}); copy it again"
    if sizes := _OTHER_SIZE.findall(reason):
        name, saved, own = sizes[0]
        return (
            f"{len(sizes)} of their weights have other sizes, such as {name} with {' x '.join(saved.split(', '))} "
            f"numbers, where this model takes {' x '.join(own.split(', '))}; {_OTHER_BASE}"
        )
    if reason.startswith("Target modules "):
        return f"this model has none of the layers that they are for; {_OTHER_BASE}"
    return reason


def _check_all_read(adapted: PeftModel, path: str, *, option: str) -> None:
    """Check that each adapter has its weights from the file, and the file none for others: PEFT only warns of both.

    Raises:
        UsageError: names a weight.
    """
    renamed = getattr(adapted.get_base_model(), "_checkpoint_conversion_mapping", {})
    saved = load_peft_weights(path, device="cpu", key_mapping=renamed).keys()
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
    missing, further = sorted(own - saved), sorted(saved - own - adapted.state_dict().keys())
    if missing or further:
        few = f"no {missing[0]} ({len(missing)} of {len(own)} are missing)" if missing else f"also {further[0]}"
        raise UsageError(
            f"{option} {path}: its file contains {few}, and these adapters would begin at zero or be left out; give "
            "the folder as it was saved, with the model that its adapter_config.json names"
        )


def saved_adapters(config: ModelConfig, *, merge: bool) -> PeftConfig | None:
    """Return the configuration of the adapters that a run trains further, or None if there are no earlier ones."""
    path = config.model_name_or_path
    if merge or path is None or adapter_folder(path, revision=config.model_revision) is None:
        return None
    found: PeftConfig = PeftConfig.from_pretrained(path)
    found.inference_mode = False
    return found


def check_merge(path: str, config: ModelConfig, *, merge_adapter: bool, has_adapters: bool) -> None:
    """Check that adapters can be merged if ``--merge_adapter`` asks for it.

    Raises:
        UsageError: the folder contains none, or the weights would be quantized.
    """
    if not merge_adapter:
        return
    if not has_adapters:
        raise UsageError(f"--merge_adapter: {path} contains no adapters (no adapter_config.json); leave it out")
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(config, name):
            raise UsageError(
                f"--merge_adapter: adapters cannot be merged into the rounded weights of --{name} without loss; leave "
                f"out --merge_adapter to train the adapters further, or --{name}"
            )


def check_stored_quantization(stored: Any, config: ModelConfig, *, what: str, merge: bool = False) -> None:
    """Check that a folder of quantized weights is not asked for what cannot be done with them, or would not be.

    ``stored`` is the quantization of its config, or None; ``what`` is what errors call the folder.

    Raises:
        UsageError: the weights would be merged into, trained themselves, or quantized in another way.
    """
    if not stored:
        return
    given = stored if isinstance(stored, dict) else stored.to_dict()
    method = given.get("quant_method", "by some method")
    what = f"the weights of {what} are quantized already ({method})"
    for name in ("load_in_4bit", "load_in_8bit"):
        if getattr(config, name):
            raise UsageError(f"--{name}: {what}, and stay as they are; leave it out, or give the model before that")
    if merge:
        raise UsageError(
            f"--merge_adapter: {what}, and nothing can be merged into rounded weights without loss; leave it out to "
            "train the adapters further"
        )


def language_model_name(model: torch.nn.Module) -> str:
    """Return the name of the language model inside ``model``, such as ``model.language_model``."""
    family = family_of(model)
    text = family.language_model(family.vision_language_model(model))
    return next(name for name, module in model.named_modules() if module is text)


def outside_language_model(model: torch.nn.Module) -> list[str]:
    """Return the names of the modules around the language model, such as ``model.visual`` and ``lm_head``."""
    names, module, path = [], model, ""
    for step in language_model_name(model).split("."):
        names += [path + name for name, _ in module.named_children() if name != step]
        module, path = module.get_submodule(step), f"{path}{step}."
    return names


def _linear_layers(model: torch.nn.Module, *, text: str) -> str:
    """A regular expression, as PEFT takes it, that matches every linear layer below the language model's name."""
    modules = model.get_submodule(text).named_modules()
    names = (name for name, module in modules if isinstance(module, torch.nn.Linear))
    leaves = {name.rpartition(".")[2] for name in names}
    found = as_peft_reads(LoraConfig(target_modules=leaves), model)
    if found.target_parameters:
        leaves &= set(found.target_modules)
    if not leaves:
        raise UsageError(f"--use_peft: {text} has no linear layers; name some with --lora_target_modules")
    return rf"{re.escape(text)}\.(.*\.)?({'|'.join(map(re.escape, sorted(leaves)))})"


def check_quantization(config: ModelConfig, *, continued: bool = False, runs_here: bool = True) -> None:
    """Check what ``--load_in_4bit`` and ``--load_in_8bit`` need before a model is loaded.

    ``continued`` says that saved adapters are trained further, so that no new ones are needed; a run that is only
    planned here (``runs_here``) needs no further package.

    Raises:
        UsageError: bitsandbytes is missing, or the quantized weights would have nothing to train.
    """
    chosen = [name for name in ("load_in_4bit", "load_in_8bit") if getattr(config, name)]
    if not chosen:
        return
    if not config.use_peft and not continued:
        raise UsageError(f"--{chosen[0]}: quantized weights cannot be trained; add --use_peft for adapters on them")
    if runs_here and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(f"--{chosen[0]} needs bitsandbytes, which is not installed: pip install bitsandbytes")
