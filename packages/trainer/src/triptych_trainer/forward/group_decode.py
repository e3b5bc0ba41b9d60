"""Decoding by groups: transformers' `generate` prepares everything, and this loop takes the place of its own.

A step calls the same model code with the same positions, scores and random numbers as transformers' own loop does. What
differs: the cache has each prompt once (`GroupCache`), rows that have ended leave the batch, and attention reads no
mask; none is built unless the model's class prepares its own calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    Cache,
    DynamicCache,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    StoppingCriteriaList,
    SuppressTokensLogitsProcessor,
)

from triptych_trainer.forward.attention import IMPLEMENTATION
from triptych_trainer.forward.draw import draw_tokens
from triptych_trainer.forward.group_cache import DECODE_KWARG, GroupCache
from triptych_trainer.forward.scores import CheckFirstScores, SuppressIds
from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.upstream.transformers_names import DynamicLayer

__all__ = ["decode_groups", "why_not_by_groups"]

_TAKEN = frozenset({"logits_processor", "stopping_criteria"})
_OWN_LOOP = ("num_beams", "num_return_sequences")
_WITH_ROWS = frozenset({"position_ids", "attention_mask"})
_BY_ROW = frozenset(
    {
        *("TemperatureLogitsWarper", "TopKLogitsWarper", "TopPLogitsWarper", "MinPLogitsWarper", "TypicalLogitsWarper"),
        *("EpsilonLogitsWarper", "EtaLogitsWarper", "SuppressTokensLogitsProcessor", "NoRepeatNGramLogitsProcessor"),
        *("MinLengthLogitsProcessor", "MinNewTokensLengthLogitsProcessor", "LogitNormalization"),
        *("InfNanRemoveLogitsProcessor", "EosTokenCriteria", "MaxLengthCriteria", "MaxTimeCriteria"),
    }
)
"""Processors and criteria of transformers that look at each row separately; a repetition penalty counts the rows."""


def why_not_by_groups(
    model: torch.nn.Module,
    text: torch.nn.Module,
    *,
    cache: Cache | None,
    config: GenerationConfig,
    further: Mapping[str, Any],
) -> str | None:
    """Return why rows have to be decoded each with a cache of its own, as the end of a sentence, or None if they need
    not.

    `cache` is what was prefilled, `text` the text backbone, `further` are further arguments of `generate`.
    """
    if cache is None or type(cache) is not DynamicCache:
        return "nothing was prefilled"
    if text.config._attn_implementation != IMPLEMENTATION:
        return "its attention is not Triptych's"
    if any(hasattr(module, "sinks") for module in text.modules()):
        return "its attention has sinks"
    for layer in cache.layers:
        if type(layer) is not DynamicLayer:
            return f"a layer caches in a {type(layer).__name__}, which contains fewer or other keys than all"
        if not layer.is_initialized or layer.keys.shape[-1] != layer.values.shape[-1]:
            return "a layer has no keys of its own, or values of another width"
        if layer.keys.device.type != "cpu":
            return "kernels that return the norms of their scores are called on a CPU only"
    if text.training and getattr(text.config, "attention_dropout", 0.0):
        return "attention drops scores at random in training mode"
    if torch.is_autocast_enabled("cpu"):
        return "autocast is on"
    if is_sharded(model):
        return "ranks that share weights leave the sampling loop together"
    if any((getattr(config, name, None) or 1) > 1 for name in _OWN_LOOP) or not set(further) <= _TAKEN:
        return "generate is asked for more than one token a row at a time"
    return None


def decode_groups(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> torch.Tensor:
    """Sample as `GenerationMixin._sample` does, on a `GroupCache`; ids `[B, T]`, padded after a row's end.

    `generate(custom_generate=decode_groups)` calls it with what it has prepared.
    """
    num_rows, width = input_ids.shape
    cache = next(value for value in model_kwargs.values() if isinstance(value, GroupCache))
    cache.room = generation_config.max_length - width
    ids_BT = input_ids.new_full((num_rows, generation_config.max_length), generation_config.pad_token_id or 0)
    ids_BT[:, :width] = input_ids
    rows_R = torch.arange(num_rows, device=input_ids.device)
    stock = _prepares_as_stock(model)
    if stock and "position_ids" in model_kwargs:  # no pads are read
        model_kwargs["attention_mask"] = None
    rows_leave = _rows_leave(model, model_kwargs, logits_processor, stopping_criteria)
    logits_processor = _lean(logits_processor)
    ended_R = torch.zeros(num_rows, dtype=torch.bool, device=input_ids.device)
    for length in range(width, generation_config.max_length):
        known_RT = ids_BT[:, :length] if len(rows_R) == num_rows else ids_BT[rows_R, :length]
        inputs = model.prepare_inputs_for_generation(
            known_RT, next_sequence_length=1, is_first_iteration=length == width, **model_kwargs
        )
        outputs = model(**inputs, **{DECODE_KWARG: cache}, return_dict=True)
        model_kwargs = model._update_model_kwargs_for_generation(outputs, model_kwargs)
        if rows_leave and stock:  # which reads the last positions only
            model_kwargs["position_ids"] = model_kwargs["position_ids"][..., -1:]
        scores_RV = logits_processor(known_RT, outputs.logits[:, -1].float())
        del outputs
        if generation_config.do_sample:
            tokens_R = draw_tokens(scores_RV, rows_R=rows_R, num_rows=num_rows)
        else:
            tokens_R = scores_RV.argmax(-1)
        ids_BT[rows_R, length] = tokens_R.masked_fill(ended_R, generation_config.pad_token_id or 0)
        ended_R = ended_R | stopping_criteria(ids_BT[rows_R, : length + 1], None)
        if bool(ended_R.all()):
            break
        if rows_leave and bool(ended_R.any()):
            kept_R = (~ended_R).nonzero().squeeze(1)
            rows_R, ended_R = rows_R[kept_R], ended_R[kept_R]
            cache.leave_rows(kept_R)
            model_kwargs = {name: _rows_of(name, value, kept_R) for name, value in model_kwargs.items()}
    return ids_BT[:, : length + 1]


def _rows_leave(
    model: Any, model_kwargs: Mapping[str, Any], processors: LogitsProcessorList, criteria: StoppingCriteriaList
) -> bool:
    """Whether a row's end changes nothing for the others: nothing remembers which row is which."""
    for each in (*processors, *criteria):
        listed = type(each).__module__.startswith("transformers.generation.") and type(each).__name__ in _BY_ROW
        if not (listed or isinstance(each, (CheckFirstScores, SuppressIds))):
            return False
    with_rows = {name for name, value in model_kwargs.items() if _holds_tensors(value)}
    stock = _prepares_as_stock(model)
    keeps_positions = "position_ids" in model_kwargs
    return with_rows <= _WITH_ROWS and keeps_positions and (stock or not hasattr(model.base_model, "rope_deltas"))


def _lean(processors: LogitsProcessorList) -> LogitsProcessorList:
    """The same processors, those of transformers that suppress ids without a pass over the vocabulary to find them."""
    return LogitsProcessorList(
        SuppressIds(tuple(each.suppress_tokens.tolist())) if type(each) is SuppressTokensLogitsProcessor else each
        for each in processors
    )


def _prepares_as_stock(model: Any) -> bool:
    """Whether transformers alone decides what the model's next call gets; otherwise the model may read the mask."""
    function = getattr(model.prepare_inputs_for_generation, "__func__", None)
    return function is GenerationMixin.prepare_inputs_for_generation


def _holds_tensors(value: Any) -> bool:
    """Whether an argument may have rows: a number, a cache or an empty container has none."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
    return any(not isinstance(part, (bool, int, float, str, Cache, type(None))) for part in parts)


def _rows_of(name: str, value: Any, kept_R: torch.Tensor) -> Any:
    """The kept rows of an argument of the next call; positions of several axes have their rows second."""
    if not isinstance(value, torch.Tensor) or name not in _WITH_ROWS:
        return value
    return value[:, kept_R] if value.dim() == 3 else value[kept_R]
