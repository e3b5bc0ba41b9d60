"""Log-probability and entropy of labelled tokens from their logits, in slices, with their own backward pass.

With z = logits / temperature and p = softmax(z):   logp = z_label - logsumexp(z)      H = -sum_v p_v log p_v
    d logp / d logit_v = (1[v = label] - p_v) / temperature
    d H    / d logit_v = -p_v (log p_v + H) / temperature
Only the logits and two numbers per row are kept; the float32 copy exists for one slice of rows at a time.
"""

from __future__ import annotations

from typing import Any

import torch

_SLICE_ELEMENTS = 1 << 24


def token_logps(
    logits_KV: torch.Tensor, labels_K: torch.Tensor, *, temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 log-probabilities `[K]` of the labels and entropies `[K]`, both differentiable."""
    return _TokenLogps.apply(logits_KV, labels_K, temperature)


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_KV: torch.Tensor, labels_K: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logps, entropies, norms = [], [], []
        for rows in _slices(logits_KV):
            scaled = logits_KV[rows].float() / temperature
            norm = scaled.logsumexp(-1)
            log_p = scaled - norm[:, None]
            logps.append(log_p.gather(-1, labels_K[rows, None]).squeeze(-1))
            entropies.append(-(log_p.exp() * log_p).sum(-1))
            norms.append(norm)
        entropies_K, norms_K = torch.cat(entropies), torch.cat(norms)
        ctx.save_for_backward(logits_KV, labels_K, norms_K, entropies_K)
        ctx.temperature = temperature
        return torch.cat(logps), entropies_K

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits_KV, labels_K, norms_K, entropies_K = ctx.saved_tensors
        grad_logps_K, grad_entropies_K = grads
        grad_KV = torch.empty_like(logits_KV)
        for rows in _slices(logits_KV):
            log_p = logits_KV[rows].float() / ctx.temperature - norms_K[rows, None]
            p = log_p.exp()
            grad = -p * (grad_logps_K[rows, None] + grad_entropies_K[rows, None] * (log_p + entropies_K[rows, None]))
            grad.scatter_add_(-1, labels_K[rows, None], grad_logps_K[rows, None])
            grad_KV[rows] = (grad / ctx.temperature).to(grad_KV.dtype)
        return grad_KV, None, None


def _slices(logits_KV: torch.Tensor) -> list[slice]:
    num_rows, vocabulary = logits_KV.shape
    step = max(1, _SLICE_ELEMENTS // max(vocabulary, 1))
    return [slice(start, start + step) for start in range(0, max(num_rows, 1), step)]
