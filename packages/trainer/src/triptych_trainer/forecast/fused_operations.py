"""Stand-ins for operations that another device computes in one kernel, and for loops of towers over windows.

A forecast runs on shapes alone, on any machine: what such a kernel keeps and returns is written down here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface

from triptych_trainer.forecast.recorder import Recorder
from triptych_trainer.forward import attention, varlen_attention
from triptych_trainer.forward.segments import Segments, why_no_flash_kernel
from triptych_trainer.forward.tower_attention import attends_segments
from triptych_trainer.upstream.transformers_names import sdpa_mask

WINDOWS = "planned_flash"
"""Name under which all windows of a tower are attended in one call; models look for "flash" in it."""
_HEAD_TOKENS, _HEAD_COLUMNS = 4096, 32768
_BACKWARD_SHARE = 2.5  # five matrix products where the forward pass has two


class _Attention(torch.autograd.Function):
    """Fused attention: keeps its inputs, its output and one float32 number per query and head."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        flops: int,
        recorder: Recorder,
    ) -> torch.Tensor:
        batch, heads, tokens, _ = query.shape
        output = query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)
        norms = query.new_empty(batch, heads, tokens, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, output, norms)
        ctx.flops, ctx.recorder = flops, recorder
        recorder.flops += flops
        return output

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        query, key, value, *_ = ctx.saved_tensors
        ctx.recorder.flops += int(_BACKWARD_SHARE * ctx.flops)
        return (*(_like(tensor) for tensor in (query, key, value)), None, None, None)


def _like(tensor: torch.Tensor) -> torch.Tensor:
    batch, heads, tokens, width = tensor.shape
    return tensor.new_empty(batch, tokens, heads, width).transpose(1, 2)


def _cast(*tensors: torch.Tensor) -> list[torch.Tensor]:
    if not torch.is_autocast_enabled("cpu"):
        return list(tensors)
    dtype = torch.get_autocast_dtype("cpu")
    return [tensor.to(dtype) for tensor in tensors]


@contextmanager
def accelerator_attention(recorder: Recorder) -> Iterator[None]:
    """Let ``scaled_dot_product_attention`` keep what it does on an accelerator: flash, memory-efficient with a mask.

    Grouped heads under a mask are repeated first, as ``forward.attention`` does there. The function is replaced for the
    time of a trace: a mode would not reach the layers that checkpointing runs again in the backward pass.
    """

    def attend(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        query, key, value = _cast(query, key, value)
        flops = 4 * query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2] * query.shape[3]
        flops //= 2 if is_causal else 1
        if attn_mask is not None:
            if key.shape[1] != query.shape[1]:
                repeats = query.shape[1] // key.shape[1]
                key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
            attn_mask = query.new_empty(attn_mask.shape)
        output: torch.Tensor = _Attention.apply(query, key, value, attn_mask, flops, recorder)
        return output

    stock, merge = F.scaled_dot_product_attention, attention.fits_merge
    F.scaled_dot_product_attention = attend
    attention.fits_merge = lambda *_, **__: False  # the fake tensors say "cpu", whose way an accelerator does not take
    try:
        with _segment_kernels(recorder):
            yield
    finally:
        F.scaled_dot_product_attention, attention.fits_merge = stock, merge


@contextmanager
def _segment_kernels(recorder: Recorder) -> Iterator[None]:
    """Let packed rows be attended as on an accelerator whose flash kernels agree with masked attention.

    The kernels keep nothing; ``varlen_attention`` keeps what its backward pass needs. While they run they take a
    float32 gradient of the queries, with 128 rows more for each segment, and gradients of the keys of every head.
    """

    def uses_segments(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **chosen: Any) -> bool:
        if chosen["choice"] == "masked" or chosen["dropout"]:
            return False
        return why_no_flash_kernel(*_cast(query, value)) is None

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        recorder.flops += 4 * query.shape[1] * query.shape[2] * segments.num_scores
        return torch.empty_like(query), query.new_empty(query.shape[1], query.shape[0], dtype=torch.float32)

    def attend_backward(
        grad: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        segments: Segments,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        tokens, heads, width = query.shape
        recorder.flops += int(_BACKWARD_SHARE * 4 * heads * width * segments.num_scores)
        grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        rows = tokens + 128 * (len(segments.starts_q) - 1)
        meanwhile = [query.new_empty(rows, heads, width, dtype=torch.float32)]
        if key.shape[1] != heads:
            meanwhile += [query.new_empty(len(key), heads, width) for _ in range(2)]
        del meanwhile
        return grads

    replaced = {
        (attention, "uses_segments"): uses_segments,
        (varlen_attention, "attend"): attend,
        (varlen_attention, "attend_backward"): attend_backward,
    }
    stock = {place: getattr(*place) for place in replaced}
    try:
        for (module, name), function in replaced.items():
            setattr(module, name, function)
        yield
    finally:
        for (module, name), function in stock.items():
            setattr(module, name, function)


@contextmanager
def windows_in_one_call(towers: list[torch.nn.Module], recorder: Recorder) -> Iterator[None]:
    """Let towers that attend window by window (their attention takes ``cu_seqlens``) do so in one call.

    The loop's results are the same and so is what it keeps: each window's output, and all of them joined. Eager
    attention keeps the scores of every window as well, and stays a loop.
    """

    def attend(
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cu_seq_lens_q: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, None]:
        assert cu_seq_lens_q is not None
        lengths = cu_seq_lens_q.diff().tolist()
        query, key, value = _cast(query, key, value)
        flops = 4 * query.shape[1] * query.shape[3] * sum(length * length for length in lengths)
        output = _Attention.apply(query, key, value, None, flops, recorder)
        return output.transpose(1, 2).clone(), None

    found = [m.config for tower in towers for m in tower.modules() if attends_segments(m)]
    configs = {id(config): config for config in found if config._attn_implementation_internal != "eager"}
    AttentionInterface.register(WINDOWS, attend)
    AttentionMaskInterface.register(WINDOWS, sdpa_mask)
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    try:
        for config in configs.values():
            config._attn_implementation_internal = WINDOWS
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


class _Head(torch.autograd.Function):
    """TRL's fused head: tiles of logits, no logits kept; the gradient of the weight is summed in float32."""

    @staticmethod
    def forward(
        ctx: Any, hidden_KD: torch.Tensor, weight_VD: torch.Tensor, recorder: Recorder
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(hidden_KD, weight_VD)
        ctx.recorder = recorder
        ctx.dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden_KD.dtype
        _head_tile(hidden_KD, weight_VD, ctx.dtype)
        recorder.flops += 2 * hidden_KD.numel() * weight_VD.shape[0]
        logps_K = hidden_KD.new_empty(hidden_KD.shape[0], dtype=torch.float32)
        return logps_K, torch.empty_like(logps_K)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        hidden_KD, weight_VD = ctx.saved_tensors
        hidden = hidden_KD.new_empty(hidden_KD.shape, dtype=torch.float32)
        weight = weight_VD.new_empty(weight_VD.shape, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        _head_tile(hidden_KD, weight_VD, ctx.dtype)
        ctx.recorder.flops += 6 * hidden_KD.numel() * weight_VD.shape[0]  # the tile again, and two gradients
        return hidden.to(hidden_KD.dtype), None if weight is None else weight.to(weight_VD.dtype), None


def _head_tile(hidden_KD: torch.Tensor, weight_VD: torch.Tensor, dtype: torch.dtype) -> None:
    columns = min(_HEAD_COLUMNS, weight_VD.shape[0])
    tile = hidden_KD.new_empty(min(_HEAD_TOKENS, hidden_KD.shape[0]), columns, dtype=dtype)
    chunk = weight_VD[:columns].to(dtype)
    del tile, chunk


@contextmanager
def fused_head(model: torch.nn.Module, recorder: Recorder) -> Iterator[None]:
    """Give ``model`` (with the head, unwrapped) the forward that TRL's ``add_fused_lm_head`` gives it on a GPU."""
    stock: Callable[..., Any] = model.forward

    def forward(*args: Any, fused_lm_head: bool = False, shift_labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return stock(*args, **kwargs)
        hidden_BTD = model.base_model(*args, use_cache=False, **kwargs).last_hidden_state
        labelled = shift_labels != -100
        found = _Head.apply(hidden_BTD[labelled], model.get_output_embeddings().weight, recorder)
        logps, entropy = (x.new_zeros(labelled.shape).masked_scatter(labelled, x) for x in found)
        return _Scored(logps, entropy)

    model.forward = forward
    try:
        yield
    finally:
        del model.forward


class _Scored:
    def __init__(self, log_probs: torch.Tensor, entropy: torch.Tensor) -> None:
        self.log_probs, self.entropy = log_probs, entropy
