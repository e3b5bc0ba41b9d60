"""Log-probabilities of completions: the group-shared pass, and the plain replicated pass."""

from __future__ import annotations

from typing import Any

import torch

from triptych_trainer.forward.attention_choice import chosen_attention
from triptych_trainer.forward.batch import BatchError, GroupBatch
from triptych_trainer.forward.cache_pass import cached_logps
from triptych_trainer.forward.choose import sharing_path
from triptych_trainer.forward.head import head_logps
from triptych_trainer.forward.hooks import install_hooks
from triptych_trainer.forward.kept import kept_at, kept_in_rows
from triptych_trainer.forward.layout import (
    PackedLayout,
    PaddedLayout,
    packed_layout,
    packed_positions,
    padded_layout,
    padded_positions,
)
from triptych_trainer.forward.merge import image_places
from triptych_trainer.forward.positions import batch_positions
from triptych_trainer.forward.prompt_graph import KeptPrompts, branch_call
from triptych_trainer.forward.router_loss import RouterTap, recording
from triptych_trainer.forward.scoring import token_logps
from triptych_trainer.forward.shared_pass import PASS_KWARG, SharedPass
from triptych_trainer.models.families import ImageFeatures, family_of
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import kept_logits, rows_of_logits

Result = tuple[torch.Tensor, torch.Tensor | None]


def shared_logps(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    temperature: float = 1.0,
    features: ImageFeatures | None = None,
    compute_entropy: bool = False,
    width: int | None = None,
    fused_lm_head: bool = False,
    pad_id: int = 0,
    router: RouterTap | None = None,
) -> Result:
    """Return the log-probabilities (and entropies) of every scored token, with each prompt forwarded once for its whole
    group.

    Args:
        model: the policy as the training loop calls it (DDP, FSDP, DeepSpeed, PEFT wrappers included).
        features: features of `batch.images` computed before (frozen tower, no-grad pass); None encodes in the call.
        width: columns of the result; at least the longest completion (default: exactly that).
        fused_lm_head: score through TRL's `add_fused_lm_head` forward, whose temperature and outputs were fixed there.
        pad_id: unused by the packed pass; the plain pass pads with it.
        router: records the routers of a model with experts during the pass; its `loss` is then that of these rows.

    Returns:
        `[num_completions, width]` float32 log-probabilities, zero at tokens that are not scored and after each
        completion's end, and entropies of the same shape or None. Rows are prompt-major.
    """
    install_hooks(model)
    path = sharing_path(model)
    has_prefix = any(len(prompt) > 1 for prompt in batch.prompts)
    if path == "cache" and has_prefix:
        found = cached_logps(model, batch, temperature=temperature, features=features, width=width, router=router)
        return found if compute_entropy else (found[0], None)
    if path != "packed":  # a cache is of no use without a token to share
        return plain_logps(
            model,
            batch,
            temperature=temperature,
            features=features,
            compute_entropy=compute_entropy,
            width=width,
            pad_id=pad_id,
            router=router,
            whole_logits=False,
        )
    is_empty = not (has_prefix or batch.max_completion_tokens)  # no model takes a row without tokens
    layout = packed_layout(batch, whole=router is not None or is_empty)
    call = _packed_call(model, batch, layout=layout, features=features)
    device = call["input_ids"].device
    keep_K, scored = layout.label_positions.to(device), _labels(batch, layout, device, temperature=temperature)
    with recording(router, layout.token_weights(batch.group_sizes)):
        if fused_lm_head and scored["kept_KJ"] is None:  # TRL's head knows only the whole vocabulary
            logps_K, entropies_K = _fused(model, call, keep_K=keep_K, labels_K=scored["labels_K"])
        else:
            logps_K, entropies_K = _selected(model, call, keep_K=keep_K, **scored)
    if compute_entropy and entropies_K is None:
        raise ValueError('no entropies: the fused head was added without outputs=("log_probs", "entropy")')
    shape = (batch.num_completions, _width(batch, width))
    return _placed(layout, logps_K, shape), _placed(layout, entropies_K, shape) if compute_entropy else None


def continued_logps(
    model: torch.nn.Module,
    batch: GroupBatch,
    kept: KeptPrompts,
    *,
    temperature: float = 1.0,
    compute_entropy: bool = False,
    width: int | None = None,
) -> Result:
    """Score as `shared_logps` does, on the batch's prompts, which generation has forwarded with a graph."""
    install_hooks(model)
    call, layout, keep_K = branch_call(model, batch, kept)
    device = call["input_ids"].device
    scored = _labels(batch, layout, device, temperature=temperature)
    logps_K, entropies_K = _selected(model, call, keep_K=keep_K.to(device), **scored)
    shape = (batch.num_completions, _width(batch, width))
    return _placed(layout, logps_K, shape), _placed(layout, entropies_K, shape) if compute_entropy else None


def _labels(batch: GroupBatch, layout: PackedLayout, device: torch.device, *, temperature: float) -> dict[str, Any]:
    """What a packed row's labels are scored by."""
    kept_KJ = kept_at(batch, layout.rows, layout.columns, device=device)
    return {"labels_K": layout.labels.to(device), "temperature": temperature, "kept_KJ": kept_KJ}


def _placed(layout: PackedLayout, values_K: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The values of a packed row's labels as rows of completions, zero elsewhere."""
    where = (layout.rows.to(values_K.device), layout.columns.to(values_K.device))
    return values_K.new_zeros(shape).index_put(where, values_K)


def plain_logps(
    model: torch.nn.Module,
    batch: GroupBatch,
    *,
    temperature: float = 1.0,
    features: ImageFeatures | None = None,
    compute_entropy: bool = False,
    width: int | None = None,
    pad_id: int = 0,
    router: RouterTap | None = None,
    whole_logits: bool = True,
) -> Result:
    """Compute the numbers of `shared_logps` from replicated, left-padded rows, for every model.

    Images are still encoded once each; G rows share their features. What other passes are compared with takes the whole
    logits of the model's own call; a run that trains by this pass has them computed in slices.
    """
    install_hooks(model)
    base = unwrap(model)
    layout = padded_layout(batch, pad_id=pad_id)
    call = _padded_call(model, batch, layout=layout, features=features)
    device = call["input_ids"].device
    num_rows, num_tokens = layout.ids.shape
    # Positions and not their number: given a number, some models drop queries of their last layers, and causality.
    keep_K = torch.arange(num_tokens - layout.width - 1, num_tokens, device=device)
    columns = layout.width
    labels = layout.ids[:, num_tokens - columns :].to(device)
    mask = layout.scored.to(device)
    kept_KJ = kept_in_rows(batch, width=columns, device=device)
    extra = _width(batch, width) - columns
    found = None
    with recording(router, layout.mask):
        if not whole_logits:
            found = head_logps(
                model,
                call,
                keep=torch.nn.functional.pad(mask, (num_tokens - columns - 1, 1)),
                labels_K=labels[mask],
                temperature=temperature,
                kept_KJ=None if kept_KJ is None else kept_KJ[mask.flatten()],
            )
        if found is None:
            logits = rows_of_logits(base, model(**call, **kept_logits(base, keep_K)).logits, keep_K)[:, :-1]
            found_BC = token_logps(
                logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), temperature=temperature, kept_KJ=kept_KJ
            )
            found = tuple(values.view(num_rows, columns)[mask] for values in found_BC)

    def shape(values_K: torch.Tensor) -> torch.Tensor:
        placed_BC = values_K.new_zeros(num_rows, columns).index_put(mask.nonzero(as_tuple=True), values_K)
        return torch.nn.functional.pad(placed_BC, (0, extra))

    return shape(found[0]), shape(found[1]) if compute_entropy else None


def _padded_call(
    model: torch.nn.Module, batch: GroupBatch, *, layout: PaddedLayout, features: ImageFeatures | None
) -> dict[str, Any]:
    """Keyword arguments of the one model call over replicated rows."""
    base = unwrap(model)
    family = family_of(base)
    inner = family.vision_language_model(base)
    device = next(inner.parameters()).device
    positions_ABT = padded_positions(layout, batch_positions(family, inner, batch))
    shared = SharedPass(
        family=family,
        vision_model=inner,
        batch=batch,
        layout=None,
        ids=layout.ids,
        completions=layout.completions,
        places=image_places(batch, starts=layout.prompt_starts, completion_starts=layout.completion_starts),
        features=features,
    )
    return {
        "input_ids": layout.ids.to(device),
        "attention_mask": layout.mask.to(device),
        "position_ids": family.position_ids(positions_ABT.to(device)),
        "use_cache": False,
        PASS_KWARG: shared,
        **shared.extras(base.config, device=device),
    }


def _packed_call(
    model: torch.nn.Module, batch: GroupBatch, *, layout: PackedLayout, features: ImageFeatures | None
) -> dict[str, Any]:
    """Keyword arguments of the one model call over the packed row."""
    base = unwrap(model)
    family = family_of(base)
    inner = family.vision_language_model(base)
    device = next(inner.parameters()).device
    positions_AT = packed_positions(layout, batch_positions(family, inner, batch))
    shared = SharedPass(
        family=family,
        vision_model=inner,
        batch=batch,
        layout=layout,
        ids=layout.ids.unsqueeze(0),
        completions=layout.completions.unsqueeze(0),
        places=image_places(batch, starts=layout.prompt_starts, completion_starts=layout.completion_starts),
        features=features,
        attention=chosen_attention(family.language_model(inner)),
    )
    return {
        "input_ids": layout.ids.unsqueeze(0).to(device),
        "position_ids": family.position_ids(positions_AT.unsqueeze(1).to(device)),
        # A 4-D mask is passed through by transformers' mask factory; the attention function does not read it.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        PASS_KWARG: shared,
        **shared.extras(base.config, device=device),
    }


def _selected(
    model: torch.nn.Module, call: dict[str, Any], *, keep_K: torch.Tensor, **scored: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Project only the label positions. Without any label, one position is projected and dropped: the graph stays."""
    call = {**call, "use_cache": False}
    found = head_logps(model, call, keep=keep_K, **scored)
    if found is not None:
        return found
    keep = keep_K if len(keep_K) else keep_K.new_zeros(1)
    base = unwrap(model)
    logits_KV = rows_of_logits(base, model(**call, **kept_logits(base, keep)).logits, keep)[0]
    if not len(keep_K):
        nothing = logits_KV.float().sum(-1)[:0]
        return nothing, nothing
    return token_logps(logits_KV, **scored)


def _fused(
    model: torch.nn.Module, call: dict[str, Any], *, keep_K: torch.Tensor, labels_K: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    labels_T = torch.full_like(call["input_ids"][0], -100).index_put((keep_K,), labels_K)
    outputs = model(**call, shift_labels=labels_T.unsqueeze(0), fused_lm_head=True)
    entropy = outputs.entropy
    return outputs.log_probs[0, keep_K], None if entropy is None else entropy[0, keep_K]


def _width(batch: GroupBatch, width: int | None) -> int:
    longest = batch.max_completion_tokens
    if width is not None and width < longest:
        raise BatchError(f"width={width} is smaller than the longest completion ({longest} tokens)")
    return longest if width is None else width
