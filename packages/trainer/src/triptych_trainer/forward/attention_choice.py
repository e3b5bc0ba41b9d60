"""Which attention a shared pass computes: segments without masks where kernels exist and agree, else masked rectangles.

    auto      on CUDA, segments; on the CPU, long branches by `merged_attention` and others under masks
    varlen    segments on every device
    masked    rectangles under masks on every device

Before segments are used for the first time, values and gradients are compared with masked attention on random states
of the model's own heads, precision and scale, on the device of the model (`why_differs`).
"""

from __future__ import annotations

import functools
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
import torch.nn.functional as F

from triptych_trainer.errors import UsageError
from triptych_trainer.forward.layout import Group
from triptych_trainer.forward.segments import why_no_kernel
from triptych_trainer.forward.varlen_attention import segment_calls, varlen_attention

__all__ = [
    "AttentionChoice",
    "AttentionWarning",
    "choose_attention",
    "chosen_attention",
    "known_choice",
    "uses_segments",
    "warn_once",
    "why_differs",
]

AttentionChoice = Literal["auto", "varlen", "masked"]
_CHOSEN: weakref.WeakKeyDictionary[torch.nn.Module, AttentionChoice] = weakref.WeakKeyDictionary()
"""By text backbone; auto where nothing was chosen."""
_GROUPS = ((150, (70, 1, 33)), (9, (20,)))
_WINDOW = 40
_ALLOWED = 3.0
"""How many times the rounding of masked attention in the same precision the segments may differ from exact numbers."""


class AttentionWarning(UserWarning):
    """Says that shared prompts are attended under masks, because the kernels without masks cannot or differ."""


def known_choice(word: str) -> AttentionChoice:
    """Return the choice that a word names.

    Raises:
        UsageError: none has this name.
    """
    choices: tuple[AttentionChoice, ...] = get_args(AttentionChoice)
    for choice in choices:
        if choice == word:
            return choice
    raise UsageError(f"shared_attention: expected {', '.join(choices[:-1])} or {choices[-1]}, got {word!r}")


def choose_attention(text: torch.nn.Module, choice: AttentionChoice, *, anew: bool = True) -> None:
    """Let shared passes of this text backbone attend so; with ``anew=False`` an earlier choice remains."""
    if anew or text not in _CHOSEN:
        _CHOSEN[text] = choice


def chosen_attention(text: torch.nn.Module) -> AttentionChoice:
    """Return how shared passes of this text backbone attend."""
    return _CHOSEN.get(text, "auto")


def uses_segments(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    choice: AttentionChoice,
    window: int | None,
    dropout: float,
    scaling: float | None,
) -> bool:
    """Return whether query `[1, heads, S, d]` is attended in segments; where that was expected and fails, warn once."""
    if choice == "masked" or dropout or (choice == "auto" and query.device.type == "cpu"):
        return False
    query, key, value = in_precision_of_call(query, key, value)
    reason = why_no_kernel(query, value) or why_differs(
        device=query.device,
        dtype=query.dtype,
        heads=(query.shape[1], key.shape[1], query.shape[3]),
        scaling=scaling,
        has_window=window is not None,
    )
    if reason is not None:
        warn_once(reason)
    return reason is None


def in_precision_of_call(*states: torch.Tensor) -> list[torch.Tensor]:
    """Return the states as autocast would give them to an attention that it knows."""
    device = states[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(states)
    return [x.to(torch.get_autocast_dtype(device)) for x in states]


@functools.cache
def warn_once(reason: str) -> None:
    """Say once in a process why branches are attended under masks."""
    warnings.warn(
        f"attention of shared prompts is computed under masks: {reason}; slower but equally correct",
        AttentionWarning,
        stacklevel=2,
    )


@functools.cache
def why_differs(
    *, device: torch.device, dtype: torch.dtype, heads: tuple[int, int, int], scaling: float | None, has_window: bool
) -> str | None:
    """Compare segments with masked attention once: None where they agree, else the end of a sentence.

    `heads` are the numbers of query heads and of key heads, and their width. Called in the first layer of a pass: what
    gradient checkpointing counts of this layer does not include the comparison.
    """
    groups, num_tokens = _groups()
    generator = torch.Generator().manual_seed(0)
    num_heads, num_key_heads, width = heads
    shapes = [(1, number, num_tokens, width) for number in (num_heads, num_key_heads, num_key_heads, num_heads)]
    *states, upstream = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
    window = _WINDOW if has_window else None
    mask = _mask(groups, num_tokens, window=window).to(device)
    calls = segment_calls(groups, branches_only=False, window=window, device=device)
    with _alone(device):
        exact = _results(lambda q, k, v: _masked(q, k, v, mask, scaling), states, upstream, torch.float64)
        masked = _results(lambda q, k, v: _masked(q, k, v, mask, scaling), states, upstream, dtype)
        try:
            found = _results(lambda q, k, v: varlen_attention(q, k, v, calls, scaling=scaling), states, upstream, dtype)
        except RuntimeError as error:
            return f"the flash kernels of torch {torch.__version__} fail: {' '.join(str(error).split())}"
    names = ("output", "gradient of queries", "gradient of keys", "gradient of values")
    for name, number, other, reference in zip(names, found, masked, exact, strict=True):
        size = float(reference.abs().mean())
        allowed = _ALLOWED * float((other - reference).abs().mean()) + 1e-4 * size
        difference = float((number - reference).abs().mean())
        if not difference <= allowed:
            return (
                f"on {device} its kernels without masks differ by {difference / size:.2g} of the {name} "
                f"(allowed {allowed / size:.2g})"
            )
    return None


def _groups() -> tuple[list[Group], int]:
    groups: list[Group] = []
    start = 0
    for prefix, branches in _GROUPS:
        groups.append(Group(start=start, prefix=prefix, branches=branches))
        start = groups[-1].end
    return groups, start


def _mask(groups: Sequence[Group], num_tokens: int, *, window: int | None) -> torch.Tensor:
    """Boolean `[T, T]`: which token sees which in the whole packed row."""
    prompt_T, branch_T, place_T = (torch.full((num_tokens,), -1) for _ in range(3))
    for number, group in enumerate(groups):
        prompt_T[group.start : group.end] = number
        place_T[group.start : group.end] = torch.arange(group.end - group.start)
        for first, length in zip(group.branch_starts, group.branches, strict=True):
            branch_T[first : first + length] = first
            place_T[first : first + length] = group.prefix + torch.arange(length)
    back = place_T[:, None] - place_T
    own = (branch_T == -1) | (branch_T == branch_T[:, None])
    mask = (prompt_T == prompt_T[:, None]) & own & (back >= 0)
    return mask if window is None else mask & (back < window)


@contextmanager
def _alone(device: torch.device) -> Iterator[None]:
    """With gradients, without autocast, and unseen by what counts the tensors that the surrounding layer saves."""
    unseen = torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)
    with torch.enable_grad(), torch.autocast(device.type, enabled=False), unseen:
        yield


def _results(
    attend: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    states: Sequence[torch.Tensor],
    upstream: torch.Tensor,
    dtype: torch.dtype,
) -> list[torch.Tensor]:
    """The output and the gradients of query, key and value, in float64."""
    leaves = [x.to(dtype).detach().requires_grad_() for x in states]
    out = attend(leaves[0], leaves[1], leaves[2])
    grads = torch.autograd.grad(out, leaves, upstream.to(dtype))
    return [x.detach().double() for x in (out, *grads)]


def _masked(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scaling: float | None
) -> torch.Tensor:
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
