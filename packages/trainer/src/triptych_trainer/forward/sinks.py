"""Attention sinks (GPT-OSS): a learned score per head that takes part in the softmax and adds nothing to the output.

    out = softmax([Q K^T * scaling | sink])[:-1] V

No fused attention knows sinks. Here the sink is one more key: every query gets a further feature of 1, every key one of
0, and the new key has sink / scaling there, zero elsewhere and a zero value. Its score is the sink, whatever the query.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_FEATURES = 8
"""How many features are added: fused kernels on CUDA need head dimensions that are multiples of 8."""


def attention_with_sinks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    sinks: torch.Tensor,
    mask: torch.Tensor | None,
    is_causal: bool,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Attend with one sink per query head: query `[B, h, S, d]`, key and value `[B, kv, K, d]` -> `[B, h, S, d]`.

    `mask` broadcasts to `[B, h, S, K]`: boolean, or added to the scores. Without a mask, `is_causal` expects S = K.
    """
    heads, scaling = query.shape[1], query.shape[-1] ** -0.5 if scaling is None else scaling
    repeats = heads // key.shape[1]
    if repeats > 1:
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    query, key = F.pad(query, (0, _FEATURES)), F.pad(key, (0, _FEATURES, 1, 0))
    features = torch.arange(query.shape[-1], device=query.device)
    first = features == query.shape[-1] - _FEATURES
    query = query + first.to(query.dtype)
    sink_h1d = (sinks.to(key.dtype) / scaling)[:, None, None] * first.to(key.dtype)
    key = torch.cat([key[:, :, :1] + sink_h1d, key[:, :, 1:]], dim=2)
    value = F.pad(value, (0, 0, 1, 0))
    if is_causal and mask is None:  # a first query that nobody reads keeps the diagonal in place
        query = F.pad(query, (0, 0, 1, 0))
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True, scale=scaling)[
            :, :, 1:
        ]
    if mask is not None:
        mask = F.pad(mask, (1, 0), value=True if mask.dtype == torch.bool else 0.0)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
