"""First use: compare the shared pass with the plain one on a small piece of the batch, and fall back if they differ.

The shared pass is compared as the run computes it: through the fused head where it uses one, and in slices where it
scores them so.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.distributed as dist

from triptych_trainer.forward.attention_choice import choose_attention, chosen_attention, warn_once
from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.choose import sharing_path_and_reason
from triptych_trainer.forward.logps import Result, plain_logps, shared_logps
from triptych_trainer.forward.sliced import sliced_logps
from triptych_trainer.models.families import ImageFeatures, SharingPath, family_of
from triptych_trainer.models.unwrap import unwrap

FLOAT32_TOLERANCE = 1e-3
"""Largest mean difference of log-probabilities in float32; a wrong mask or position gives about 1, rounding 1e-6."""
HALF_TOLERANCE = 5e-3
"""The least that is allowed in half precision; three times the noise of the plain pass is allowed, too."""
_SAMPLE_TOKENS = 16
_Way = SharingPath | Literal["sliced"]


class SharingWarning(UserWarning):
    """Says that prompts are not shared for this model: it cannot, or its shared pass disagreed with its plain pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Says what the comparison found."""

    difference: float
    """Mean absolute difference of the compared log-probabilities, the larger over all ranks."""
    tolerance: float
    num_tokens: int

    @property
    def holds(self) -> bool:
        """Whether the shared pass may be used."""
        return self.difference <= self.tolerance


class CheckedLogps:
    """Scores as `shared_logps`, which it compares on the first batch of each model, or as `plain_logps` if they differ.

    It is verified once more on the first batch in which an image arrived in a completion; what is equal there is equal
    without such images, too. Ranks decide together, so that all take the same path: every rank has to make its calls at
    the same time until then.
    """

    def __init__(self) -> None:
        self._verdicts: weakref.WeakKeyDictionary[torch.nn.Module, dict[tuple[_Way, bool], bool]]
        self._verdicts = weakref.WeakKeyDictionary()
        self.expects_completion_images = False
        """Whether images may arrive in completions: ranks then inform each other when the first one did."""

    def __call__(
        self,
        model: torch.nn.Module,
        batch: GroupBatch,
        *,
        known_features: Callable[[], ImageFeatures | None] | None = None,
        rows_per_slice: int | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        **arguments: Any,
    ) -> Result:
        """Score as `shared_logps` does; the comparison takes `known_features` and then encodes nothing.

        With `rows_per_slice` it is `sliced_logps`, whose backward pass runs under `autocast`.
        """
        base = unwrap(model)
        path: _Way
        path, reason = ("sliced", None) if rows_per_slice is not None else sharing_path_and_reason(model)
        verdicts = self._verdicts.setdefault(base, {})
        case = (path, self._has_completion_images(base, batch, known=(path, True) in verdicts))
        if case not in verdicts and path == "plain":
            if (path, not case[1]) not in verdicts:
                warnings.warn(_no_sharing(base, str(reason)), SharingWarning, stacklevel=2)
            verdicts[case] = False
        elif case not in verdicts:
            known = {"features": known_features()} if known_features is not None else {}
            agreement = compare_ways(model, batch, in_slices=path == "sliced", **{**arguments, **known})
            verdicts[case] = agreement.holds
            if not agreement.holds:
                warnings.warn(_message(base, agreement), SharingWarning, stacklevel=2)
        if case[1]:  # else a rank without such images in a later batch would compare alone, and wait for the others
            verdicts.setdefault((path, False), verdicts[case])
        if verdicts[case] and rows_per_slice is not None:
            taken = {name: arguments[name] for name in ("temperature", "features") if name in arguments}
            return sliced_logps(model, batch, rows_per_slice=rows_per_slice, autocast=autocast, **taken)
        if verdicts[case]:
            return shared_logps(model, batch, **arguments)
        arguments.pop("fused_lm_head", None)
        return plain_logps(model, batch, **arguments, whole_logits=False)

    def _has_completion_images(self, base: torch.nn.Module, batch: GroupBatch, *, known: bool) -> bool:
        """Whether this rank's batch has images in completions; until that case is verified, whether any rank's has."""
        if known or not self.expects_completion_images:
            return batch.has_completion_images
        device = next(base.parameters()).device
        return _largest(torch.tensor(float(batch.has_completion_images), device=device)) > 0


def compare_ways(model: torch.nn.Module, batch: GroupBatch, *, in_slices: bool, **arguments: Any) -> Agreement:
    """Compare as `compare` does; a pass that differs is compared once more under masks, and keeps them if it then
    agrees.
    """
    agreement = compare(model, batch, in_slices=in_slices, **arguments)
    base = unwrap(model)
    family = family_of(base)
    text = family.language_model(family.vision_language_model(base))
    before = chosen_attention(text)
    on_segments = before == "varlen" or (before == "auto" and next(base.parameters()).device.type == "cuda")
    if agreement.holds or not on_segments:
        return agreement
    choose_attention(text, "masked")
    under_masks = compare(model, batch, in_slices=in_slices, **arguments)
    if not under_masks.holds:
        choose_attention(text, before)
        return agreement
    warn_once(
        f"without masks the shared pass of {type(base).__name__} differs from its plain pass by "
        f"{agreement.difference:.2g} per token (allowed {agreement.tolerance:.2g})"
    )
    return under_masks


@torch.no_grad()
def compare(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    in_slices: bool = False,
    fused_lm_head: bool = False,
    **arguments: Any,
) -> Agreement:
    """Run both passes without gradient on one prompt and two short completions of `batch`; dropout is off meanwhile.

    The shared one goes through the fused head, or `in_slices` of one completion, as the run's does.
    """
    small, kept = sample(batch)
    arguments = {name: value for name, value in arguments.items() if name in ("temperature", "features", "pad_id")}
    if arguments.get("features") is not None:
        arguments["features"] = arguments["features"].select(kept)
    with without_dropout(model):
        if in_slices:
            taken = {name: value for name, value in arguments.items() if name != "pad_id"}
            shared, _ = sliced_logps(model, small, rows_per_slice=1, **taken)
        else:
            shared, _ = shared_logps(model, small, fused_lm_head=fused_lm_head, **arguments)
        plain, _ = plain_logps(model, small, **arguments)
        num_tokens = sum(sum(counted) for group in small.trained for counted in group)
        difference = _largest((shared - plain).abs().sum() / max(num_tokens, 1))
        tolerance = _tolerance(model, small, plain, difference=difference, arguments=arguments)
    return Agreement(difference=difference, tolerance=tolerance, num_tokens=num_tokens)


@torch.no_grad()
def agreement_with_plain(
    model: torch.nn.Module,
    batch: GroupBatch,
    logps_BC: torch.Tensor,
    *,
    temperature: float,
    features: ImageFeatures | None,
) -> Agreement:
    """Compare scores of a whole batch with the plain pass on the same sample as `compare`; dropout is off meanwhile.

    `features` are of all images of the batch, in its order; None encodes the sample's own.
    """
    best, longest = _sampled(batch)
    small, kept = sample(batch)
    first = sum(batch.group_sizes[:best])
    with without_dropout(model):
        chosen = None if features is None else features.detach().select(kept)
        arguments: dict[str, Any] = {"temperature": temperature, "features": chosen}
        plain, _ = plain_logps(model, small, **arguments)
        scored = torch.zeros(plain.shape, dtype=torch.bool, device=plain.device)
        for row, counted in enumerate(small.trained[0]):
            scored[row, : len(counted)] = torch.tensor(counted, device=plain.device)
        ours = logps_BC[[first + g for g in longest], : plain.shape[1]]
        num_tokens = int(scored.sum())
        difference = _largest((ours - plain).abs().masked_fill(~scored, 0.0).sum() / max(num_tokens, 1))
        tolerance = _tolerance(model, small, plain, difference=difference, arguments=arguments)
    return Agreement(difference=difference, tolerance=tolerance, num_tokens=num_tokens)


def _tolerance(
    model: torch.nn.Module, small: GroupBatch, plain: torch.Tensor, *, difference: float, arguments: dict[str, Any]
) -> float:
    """How much the passes may differ: in half precision also by the noise of the plain pass in other shapes."""
    tolerance = HALF_TOLERANCE if in_half_precision(model) else FLOAT32_TOLERANCE
    if difference <= tolerance or not in_half_precision(model):
        return tolerance
    num_tokens = sum(sum(counted) for group in small.trained for counted in group)
    other, _ = plain_logps(model, _in_other_shapes(small), **arguments)
    noise = _largest((other[: len(plain), : plain.shape[1]] - plain).abs().sum() / max(num_tokens, 1))
    return max(tolerance, 3 * noise)


def _in_other_shapes(small: GroupBatch) -> GroupBatch:
    """The same rows and a longer one after them: the same numbers, computed in other shapes."""
    last = [max(group, key=len, default=()) * 2 for group in small.completions]
    return replace(
        small,
        completions=tuple((*group, ids) for group, ids in zip(small.completions, last, strict=True)),
        trained=tuple((*group, (True,) * len(ids)) for group, ids in zip(small.trained, last, strict=True)),
        completion_images=tuple((*group, ()) for group in small.completion_images),
        kept=tuple((*group, None) for group in small.kept),
    )


def _largest(value: torch.Tensor) -> float:
    """The largest over all ranks; what is no number is infinite."""
    value = value if torch.isfinite(value) else torch.full_like(value, torch.inf)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return float(value)


def sample(batch: GroupBatch) -> tuple[GroupBatch, tuple[int, ...]]:
    """Return the prompt with the most images (then the shortest), with its two longest completions cut to a few tokens.

    Where images arrived in completions, it is a prompt with such a completion, which keeps its first image whole and
    the first scored tokens after it.
    """
    best, longest = _sampled(batch)
    return batch.pick([(best, longest)], ends=[[_sample_end(batch, best, g) for g in longest]])


def _sampled(batch: GroupBatch) -> tuple[int, list[int]]:
    """The prompt of the sample, and the numbers of its completions."""
    prompts = [p for p, group in enumerate(batch.completions) if any(group)] or [0]

    def order(p: int) -> tuple[bool, int, int]:
        return not any(batch.completion_images[p]), -len(batch.spans[p]), len(batch.prompts[p])

    best = min(prompts, key=order)
    completions, images = batch.completions[best], batch.completion_images[best]
    longest = sorted(range(len(completions)), key=lambda g: (not images[g], -len(completions[g])))[:2]
    return best, longest


def _sample_end(batch: GroupBatch, prompt: int, completion: int) -> int:
    """After which token of a completion the sample ends: a few after its first image, and after a scored one."""
    images, trained = batch.completion_images[prompt][completion], batch.trained[prompt][completion]
    behind = images[0].span.start + images[0].span.length if images else 0
    first = next((k for k in range(behind, len(trained)) if trained[k]), behind)
    scored = [k for k in range(min(first + _SAMPLE_TOKENS, len(trained))) if trained[k]]
    return scored[-1] + 1 if scored else min(_SAMPLE_TOKENS, len(trained))


@contextmanager
def without_dropout(model: torch.nn.Module) -> Iterator[None]:
    """Set dropout probabilities aside instead of switching to eval mode, which would switch checkpointing off, too."""
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Dropout) and module.training]
    attentions = [m for m in model.modules() if isinstance(getattr(m, "attention_dropout", None), float) and m.training]
    saved = [module.attention_dropout for module in attentions]
    try:
        for module in layers:
            module.eval()
        for module in attentions:
            module.attention_dropout = 0.0
        yield
    finally:
        for module in layers:
            module.train()
        for module, probability in zip(attentions, saved, strict=True):
            module.attention_dropout = probability


def in_half_precision(model: torch.nn.Module) -> bool:
    """Return whether a call of the model now computes in half precision, by its weights or by autocast."""
    half = torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu")
    return half or any(p.dtype in (torch.bfloat16, torch.float16) for p in unwrap(model).parameters())


def _no_sharing(base: torch.nn.Module, reason: str) -> str:
    name = type(base).__name__
    return f"prompts of {name} are computed once per completion: {reason}; this is slower, but equally correct"


def _message(base: torch.nn.Module, agreement: Agreement) -> str:
    return (
        f"the group-shared pass of {type(base).__name__} differs from its plain pass by {agreement.difference:.2g} per "
        f"token on {agreement.num_tokens} tokens (allowed {agreement.tolerance:.2g}); using the plain pass, which is "
        "slower, but equally correct. Please report the model and the transformers version."
    )
