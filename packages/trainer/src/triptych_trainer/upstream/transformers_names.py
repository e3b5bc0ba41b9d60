"""What Triptych uses of transformers that has no stable name: imported, checked and bridged over versions here.

transformers 5.17 to 5.24 differ in these ways that reach us:

    below 5.18  deepstack features are one tensor per layer instead of one piece per image (`rows_per_layer`)
    below 5.18  the configs of GLM-4V-MoE and Qwen3-VL-MoE lack `output_router_logits` (`declare_router_logits`)
    below 5.23  the config of Kimi-K2.5-VL lacks it, too, and its model does not name its routers (`router_recorder`)
    below 5.18  the rows of Idefics 2's tiles are one tensor (`rows_by_tile`)
    below 5.18  TRL does not find the experts of a model that is given by its name (`trl_finds_named_experts`)
    below 5.19  the model code of MiniCPM-V 4.6 is wrong for several images (`Family.least_transformers`)
    below 5.19  the trainer divides `train_loss` by all steps and has no `_initial_global_step` (`is_at_least`)
    from 5.21   checkpointing has a second name, which is the one that is read (`checkpointing_names`)
    below 5.21  `logits_to_keep` takes no mask of rows and columns (`kept_logits`)
    below 5.23  a processor's options are merged for a class that is named (`image_options`)
    below 5.23  a processor has no `images_kwargs` (the parser's business)
    below 5.24  a checkpointed layer drops its cache also where no gradient is wanted (`CHECKPOINTING_DROPS_CACHES`)
    from 5.24   the argument `past_key_values` is called `cache` (`cache_argument`)
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.upstream.torch_names import check_module_names

try:
    from transformers.cache_utils import (
        CacheLayerMixin,
        DynamicLayer,
        DynamicSlidingWindowLayer,
        LinearAttentionCacheLayerMixin,
        LinearAttentionLayer,
    )
    from transformers.initialization import no_init_weights
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask
    from transformers.modeling_layers import GradientCheckpointingLayer
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func
    from transformers.trainer import TRAINER_STATE_NAME
    from transformers.utils.chat_parsing import ResponseParser
    from transformers.utils.output_capturing import OutputRecorder
except ImportError as error:
    raise IncompatibleVersionError(
        f"transformers {transformers.__version__} is not the one that Triptych hooks into: {error}; "
        "install a version that triptych-trainer asks for"
    ) from error

__all__ = [
    "CHECKPOINTING_DROPS_CACHES",
    "TESTED_TRANSFORMERS",
    "TRAINER_STATE_NAME",
    "CacheLayerMixin",
    "DynamicLayer",
    "DynamicSlidingWindowLayer",
    "GradientCheckpointingLayer",
    "LinearAttentionCacheLayerMixin",
    "LinearAttentionLayer",
    "ResponseParser",
    "cache_argument",
    "check_names",
    "checkpointing_names",
    "declare_router_logits",
    "image_options",
    "is_at_least",
    "kept_logits",
    "lacks_router_logits",
    "load_balancing_loss_func",
    "load_reports",
    "no_init_weights",
    "router_recorder",
    "rows_by_tile",
    "rows_of_logits",
    "rows_per_layer",
    "sdpa_attention_forward",
    "sdpa_mask",
    "takes_keywords",
    "trl_finds_named_experts",
]

TESTED_TRANSFORMERS = "5.17 to 5.24"
ATTRIBUTES: tuple[tuple[type, tuple[str, ...]], ...] = (
    (
        transformers.PreTrainedModel,
        (
            *("_can_record_outputs", "_can_set_attn_implementation", "_hf_peft_config_loaded", "_supports_sdpa"),
            "set_attn_implementation",
        ),
    ),
    (transformers.ProcessorMixin, ("_merge_kwargs", "valid_processor_kwargs")),
    (transformers.PreTrainedConfig, ("_attn_implementation", "get_text_config")),
    (transformers.GenerationMixin, ("prepare_inputs_for_generation", "_update_model_kwargs_for_generation")),
    (transformers.Trainer, ("get_optimizer_cls_and_kwargs",)),
    (transformers.AttentionInterface, ("register",)),
    (transformers.AttentionMaskInterface, ("register",)),
    (transformers.Cache, ("get_seq_length", "reorder_cache")),
    (DynamicLayer, ("update",)),
    (LinearAttentionLayer, ("update_conv_state", "update_recurrent_state")),
    (GradientCheckpointingLayer, ("_can_checkpoint_with_cache",)),
    (ResponseParser, ("feed", "finalize")),
)
"""Methods and attributes that are overridden, set or called, and that no public page of transformers promises."""
OF_A_CONFIG = ("_attn_implementation_internal", "_name_or_path")
"""What is read or set of a configuration after it is made."""
WRITTEN_LATER = ("_gradient_checkpointing_func", "_is_hf_initialized")
"""What transformers writes on layers that are checkpointed, and on weights that it has read; a test looks there."""
READ_BY_PEFT = ("_checkpoint_conversion_mapping",)
"""How a model's own code renames the weights of saved adapters; models of transformers have no such attribute."""

_VERSION = tuple(int(part) for part in transformers.__version__.split(".")[:2])
CHECKPOINTING_DROPS_CACHES = _VERSION < (5, 24)
"""Whether gradient checkpointing in training mode loses the cache of a call without gradients."""
_KEEPS_BY_MASK = hasattr(transformers.modeling_utils, "slice_logits_to_keep")


@functools.cache
def check_names() -> None:
    """Check once that everything in `ATTRIBUTES`, and in the list of torch's names, exists.

    Raises:
        IncompatibleVersionError: names the class, the attribute and the installed version.
    """
    check_module_names()
    config = transformers.PreTrainedConfig()
    if lost := [name for name in OF_A_CONFIG if not hasattr(config, name)]:
        raise _gone("PreTrainedConfig", lost[0])
    for owner, names in ATTRIBUTES:
        for name in names:
            if not hasattr(owner, name):
                raise _gone(owner.__name__, name)


def _gone(owner: str, name: str) -> IncompatibleVersionError:
    return IncompatibleVersionError(
        f"transformers {transformers.__version__} is not the one that Triptych hooks into: {owner}.{name} is gone; "
        "install a version that triptych-trainer asks for"
    )


def cache_argument(model: torch.nn.Module, cache: Any) -> dict[str, Any]:
    """Return the keyword argument that hands `cache` to a transformers model: `cache`, or `past_key_values` before
    5.24.

    The model's own signature decides, because code that comes with a model keeps the older name.
    """
    name = "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"
    return {name: cache}


def kept_logits(model: torch.nn.Module, keep: torch.Tensor) -> dict[str, Any]:
    """Return the keyword argument that projects only some positions, or nothing if the model or transformers takes no
    such argument.

    `keep` is a boolean mask `[B, S]`, or positions `[K]` that apply to every row.
    """
    return {"logits_to_keep": keep} if _keeps(model, keep) else {}


def rows_of_logits(model: torch.nn.Module, logits: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Return the kept logits, `[K, V]` by a mask and `[B, K, V]` by positions, from a call with `kept_logits(model,
    keep)`.
    """
    if keep.dtype == torch.bool:
        return logits.reshape(-1, logits.shape[-1]) if _keeps(model, keep) else logits[keep]
    return logits if _keeps(model, keep) else logits[:, keep]


def _keeps(model: torch.nn.Module, keep: torch.Tensor) -> bool:
    named = "logits_to_keep" in inspect.signature(type(model).forward).parameters
    return named and (_KEEPS_BY_MASK or keep.dtype != torch.bool)


def rows_per_layer(deepstack: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """Return one `[N, D]` tensor per layer, from tensors or from pieces per image."""
    return tuple(rows if isinstance(rows, torch.Tensor) else torch.cat(list(rows)) for rows in deepstack)


def rows_by_tile(rows: Any, num_tiles: int) -> Any:
    """Return the rows of tiles, as many of each, as `[tiles, rows, D]`, also where they are one tensor `[N, D]`."""
    flat = isinstance(rows, torch.Tensor) and rows.dim() == 2
    return rows.unflatten(0, (num_tiles, -1)) if flat else rows


def checkpointing_names(args: Any) -> tuple[str, ...]:
    """Return the fields of training arguments that switch gradient checkpointing on, of which one mirrors the other."""
    return tuple(name for name in ("gradient_checkpointing", "activation_checkpointing") if hasattr(args, name))


def trl_finds_named_experts() -> bool:
    """Return whether TRL knows of every model with experts that it has them, when it loads the model by its name."""
    return is_at_least(5, 18)


def declare_router_logits(model: torch.nn.Module) -> bool:
    """Give a config with a load-balancing loss the switch that it lacks below 5.18; return whether it was lacking.

    TRL knows by `output_router_logits` that a model has experts, and without it would drop their loss in silence.
    """
    lacking = lacks_router_logits(model.config)
    if lacking:
        model.config.get_text_config().output_router_logits = False
    return lacking


def lacks_router_logits(config: Any) -> bool:
    """Return whether a config has a load-balancing loss but not the switch by which TRL finds it."""
    text = config.get_text_config()
    has_loss = hasattr(text, "router_aux_loss_coef") or getattr(text, "model_type", None) == "deepseek_v3"
    return has_loss and not hasattr(text, "output_router_logits")


def router_recorder(text: torch.nn.Module) -> OutputRecorder | None:
    """Return which modules of a text backbone give router logits, and where, or None if the model does not say so."""
    found = (getattr(text, "_can_record_outputs", None) or {}).get("router_logits")
    if found is None:
        routers = (type(module) for module in text.modules() if type(module).__name__ == "DeepseekV3TopkRouter")
        router = next(routers, None)
        return None if router is None else OutputRecorder(router, index=0)
    return found if isinstance(found, OutputRecorder) else OutputRecorder(found, index=1)


def image_options(processor: Any) -> dict[str, Any]:
    """Return the image options of a call of the whole processor; below 5.23 the class that contains them has to be
    named.
    """
    merge = processor._merge_kwargs
    named = "ModelProcessorKwargs" in inspect.signature(merge).parameters
    return dict((merge(processor.valid_processor_kwargs) if named else merge())["images_kwargs"])


@contextmanager
def load_reports(
    on_report: Callable[[torch.nn.Module, str, Collection[str], Collection[Any]], object],
) -> Iterator[None]:
    """Hand over, for each model that is loaded meanwhile, its path and the weights that were missing or did not fit.

    transformers returns them only to a caller of `from_pretrained` that asks; TRL, which loads for us, does not.
    """
    modeling: Any = transformers.modeling_utils
    stock = modeling.log_state_dict_report

    def report(model: torch.nn.Module, *, loading_info: Any, pretrained_model_name_or_path: str, **given: Any) -> None:
        path = pretrained_model_name_or_path
        stock(model=model, loading_info=loading_info, pretrained_model_name_or_path=path, **given)
        on_report(model, path, loading_info.missing_keys, loading_info.mismatched_keys)

    modeling.log_state_dict_report = report
    try:
        yield
    finally:
        modeling.log_state_dict_report = stock


def is_at_least(major: int, minor: int) -> bool:
    """Return whether the installed transformers is this version or a later one."""
    return (major, minor) <= _VERSION


def takes_keywords(function: Any) -> bool:
    """Return whether a function hands further keyword arguments on (`**kwargs`, under whatever name)."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(function).parameters.values())
