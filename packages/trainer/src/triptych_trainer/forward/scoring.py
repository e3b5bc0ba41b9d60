"""Log-probability and entropy of labelled tokens from their logits, in slices, with their own backward pass.

With z = logits / temperature and p = softmax(z):   logp = z_label - logsumexp(z)      H = -sum_v p_v log p_v
    d logp / d logit_v = (1[v = label] - p_v) / temperature
    d H    / d logit_v = -p_v (log p_v + H) / temperature
Where tokens were drawn among some tokens only (`kept`), p is 0 for the others, and so is the gradient of their logits.
Only the logits and two numbers per row are kept; the float32 copy exists for one slice of rows at a time.
"""

from __future__ import annotations

from typing import Any

import torch

from triptych_trainer.forward.kept import all_are_cut, normalised, places

_SLICE_ELEMENTS = 1 << 23
_CACHED_ELEMENTS = 1 << 20
"""So many logits of a slice are scored at one time on a CPU: larger temporary tensors would go through its memory."""


def token_logps(
    logits_KV: torch.Tensor,
    labels_K: torch.Tensor,
    *,
    temperature: float = 1.0,
    kept_KJ: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 log-probabilities `[K]` of the labels and entropies `[K]`, both differentiable."""
    return _TokenLogps.apply(logits_KV, labels_K, temperature, kept_KJ)


class _TokenLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_KV: torch.Tensor, labels_K: torch.Tensor, temperature: float, kept_KJ: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = [
            logps_of_logits(logits_KV[rows], labels_K[rows], temperature=temperature, kept_KJ=part_of(kept_KJ, rows))
            for rows in slices_of(*logits_KV.shape)
        ]
        logps_K, entropies_K, norms_K = (torch.cat(parts) for parts in zip(*found, strict=True))
        ctx.save_for_backward(logits_KV, labels_K, norms_K, entropies_K, kept_KJ)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return logps_K, entropies_K

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor, None, None, None]:
        logits_KV, labels_K, norms_K, entropies_K, kept_KJ = ctx.saved_tensors
        grad_KV = torch.empty_like(logits_KV)
        for rows in slices_of(*logits_KV.shape):
            grad_KV[rows] = grad_of_logits(
                logits_KV[rows],
                labels_K[rows],
                norms_K[rows],
                entropies_K[rows],
                *(part_of(grad, rows) for grad in grads),
                temperature=ctx.temperature,
                kept_KJ=part_of(kept_KJ, rows),
            )
        return grad_KV, None, None, None


def logps_of_logits(
    logits_KV: torch.Tensor, labels_K: torch.Tensor, *, temperature: float, kept_KJ: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the log-probabilities, entropies and log-sum-exps `[K]` of a slice; the backward pass needs the third."""
    parts = _cached_rows(logits_KV)
    rooms = [torch.empty_like(logits_KV[parts[0]], dtype=torch.float32) for _ in range(2)]
    found = [
        _logps_of_part(logits_KV[rows], labels_K[rows], rooms, temperature=temperature, kept_KJ=part_of(kept_KJ, rows))
        for rows in parts
    ]
    logps_K, entropies_K, norms_K = (torch.cat(columns) for columns in zip(*found, strict=True))
    return logps_K, entropies_K, norms_K


def _logps_of_part(
    logits_KV: torch.Tensor,
    labels_K: torch.Tensor,
    rooms: list[torch.Tensor],
    *,
    temperature: float,
    kept_KJ: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Score some rows; `rooms` are two tensors to write into, because new ones would be pages that fault in."""
    scaled_KV = normalised(logits_KV, kept_KJ, temperature=temperature)
    below_KV, weights_KV = (room[: len(scaled_KV), : scaled_KV.shape[1]] for room in rooms)
    tops_K = scaled_KV.amax(-1)
    torch.sub(scaled_KV, tops_K[:, None], out=below_KV)
    sums_K = torch.exp(below_KV, out=weights_KV).sum(-1)
    logs_K = sums_K.log()
    if all_are_cut(kept_KJ):
        logps_K = logits_KV.gather(-1, labels_K[:, None]).squeeze(-1).float() / temperature - tops_K - logs_K
    else:
        logps_K = below_KV.gather(-1, labels_K[:, None]).squeeze(-1) - logs_K
    return logps_K, logs_K - weights_KV.mul_(below_KV).sum(-1) / sums_K, tops_K + logs_K


def grad_of_logits(
    logits_KV: torch.Tensor,
    labels_K: torch.Tensor,
    norms_K: torch.Tensor,
    entropies_K: torch.Tensor,
    grad_logps_K: torch.Tensor | None,
    grad_entropies_K: torch.Tensor | None,
    *,
    temperature: float,
    kept_KJ: torch.Tensor | None,
    in_place: bool = False,
) -> torch.Tensor:
    """Return the gradient of a slice of logits `[K, V]` in float32; None means a gradient of zeros.

    With `in_place` it may be written into the logits.
    """
    in_place = in_place and logits_KV.dtype == torch.float32
    grad_KV = logits_KV if in_place else torch.empty_like(logits_KV, dtype=torch.float32)
    for rows in _cached_rows(logits_KV):
        _grad_of_part(
            grad_KV[rows],
            logits_KV[rows],
            norms_K[rows],
            entropies_K[rows],
            part_of(grad_logps_K, rows),
            part_of(grad_entropies_K, rows),
            temperature=temperature,
            kept_KJ=part_of(kept_KJ, rows),
        )
    if grad_logps_K is not None:
        grad_KV.scatter_add_(-1, labels_K[:, None], (grad_logps_K / temperature)[:, None])
    return grad_KV


def _grad_of_part(
    grad_KV: torch.Tensor,
    logits_KV: torch.Tensor,
    norms_K: torch.Tensor,
    entropies_K: torch.Tensor,
    grad_logps_K: torch.Tensor | None,
    grad_entropies_K: torch.Tensor | None,
    *,
    temperature: float,
    kept_KJ: torch.Tensor | None,
) -> None:
    """Write the gradient of some rows of logits, without what a label adds to its own."""
    scaled_KV = normalised(logits_KV, kept_KJ, temperature=temperature)
    is_narrow = all_are_cut(kept_KJ)
    found_KV = torch.empty_like(scaled_KV) if is_narrow else grad_KV
    torch.sub(scaled_KV, norms_K[:, None], out=found_KV)
    factors_K = torch.zeros_like(norms_K) if grad_logps_K is None else grad_logps_K
    if grad_entropies_K is None:
        found_KV.exp_().mul_((factors_K / -temperature)[:, None])
    else:
        slopes_KV = (found_KV + entropies_K[:, None]).mul_(grad_entropies_K[:, None]).add_(factors_K[:, None])
        found_KV.exp_().mul_(slopes_KV).div_(-temperature)
    if kept_KJ is not None and is_narrow:
        grad_KV.zero_().scatter_add_(-1, places(kept_KJ), found_KV)


def slices_of(num_rows: int, vocabulary: int) -> list[slice]:
    """Return slices of rows that are small enough to have logits at one time."""
    step = max(1, _SLICE_ELEMENTS // max(vocabulary, 1))
    return [slice(start, start + step) for start in range(0, max(num_rows, 1), step)]


def _cached_rows(logits_KV: torch.Tensor) -> list[slice]:
    """Return the rows of a slice that are scored at one time: on a CPU few, elsewhere all."""
    num_rows, vocabulary = logits_KV.shape
    if logits_KV.device.type != "cpu":
        return [slice(0, num_rows)]
    step = max(1, _CACHED_ELEMENTS // max(vocabulary, 1))
    return [slice(start, start + step) for start in range(0, max(num_rows, 1), step)]


def part_of(values: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    """Return some rows of a tensor, or None if there is no tensor."""
    return None if values is None else values[rows]
