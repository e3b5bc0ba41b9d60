"""The places where Triptych enters a transformers model: text attention, the text backbone's input, its routers.

1. Attention: the text config's implementation becomes "group_shared" (plain SDPA unless a shared pass is given).
2. Merge: a forward pre-hook on the text backbone. The stock model embeds the ids and calls its text backbone; the hook
   finds the `SharedPass` among the keyword arguments, runs the vision tower over the unique images (inside the wrapped
   model's forward, where DDP, FSDP and ZeRO expect it) and puts the feature rows into the embeddings.
3. Routers: a forward pre-hook on a whole model with experts, whose own load-balancing loss is not computed.
4. Rotary embeddings that depend on the longest row: a forward pre-hook that refuses rows beyond their range, in every
   call.
The others do nothing in calls without a `SharedPass`. `install_hooks` installs them, `remove_hooks` removes them.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.forward.attention import IMPLEMENTATION, register_attention
from triptych_trainer.forward.attention_choice import AttentionChoice, choose_attention, chosen_attention
from triptych_trainer.forward.choose import sharing_path
from triptych_trainer.forward.encode import encode, touch_tower, tower_is_trainable
from triptych_trainer.forward.rotary_range import refuse_beyond_range, rotary_modules
from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.forward.shared_pass import PASS_KWARG, SharedPass
from triptych_trainer.forward.tower_attention import join_windows, part_windows
from triptych_trainer.models.families import Family, UnknownFamilyError, family_of, selects_keys
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.upstream.transformers_names import TESTED_TRANSFORMERS, check_names, is_at_least, takes_keywords

_BEFORE: weakref.WeakKeyDictionary[torch.nn.Module, str] = weakref.WeakKeyDictionary()
"""Which attention a text backbone had before it was prepared."""
_AS_LOADED: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
"""Text backbones that keep their own attention for now (`own_attention`)."""


def install_hooks(model: torch.nn.Module, *, attention: AttentionChoice | None = None) -> Family:
    """Install the hooks on `model` and return its family. A second call changes nothing; call it before training.

    The first call that gives `attention` says how shared passes of this model attend (`attention_choice`).

    Raises:
        IncompatibleVersionError: transformers or the model's class lacks what the hooks need; the message names it
            and the version.
    """
    base = unwrap(model)
    family = family_of(base)
    text = family.language_model(family.vision_language_model(base))
    check_hook_points(base, text=text)
    check_family(family, base)
    if attention is not None:
        choose_attention(text, attention, anew=False)
    if family.takes_images and text not in _AS_LOADED:
        _attend_windows(family, family.vision_language_model(base), choice=chosen_attention(text))
    replaces = sharing_path(base) == "packed" and text not in _AS_LOADED
    if replaces and text.config._attn_implementation != IMPLEMENTATION:
        register_attention()
        _BEFORE[text] = text.config._attn_implementation
        _set_attention(base, text, IMPLEMENTATION)
        if text.config._attn_implementation != IMPLEMENTATION:
            raise IncompatibleVersionError(
                _message(base, "its text backbone does not take a registered attention function")
            )
    if not _is_hooked(text):
        text.register_forward_pre_hook(merge_images, with_kwargs=True)
        for rotary in rotary_modules(text):
            rotary.register_forward_pre_hook(refuse_beyond_range, with_kwargs=True)
        if "output_router_logits" in inspect.signature(type(base).forward).parameters:
            base.register_forward_pre_hook(without_router_loss, with_kwargs=True)
    return family


def _attend_windows(family: Family, vision_model: torch.nn.Module, *, choice: AttentionChoice) -> None:
    """Let towers attend all windows in one call where shared prompts are attended in segments, and else as loaded."""
    on_cuda = next(vision_model.parameters()).device.type == "cuda"
    if choice == "varlen" or (choice == "auto" and on_cuda):
        join_windows(family, vision_model)
    elif choice == "masked":
        part_windows(family, vision_model)


def remove_hooks(model: torch.nn.Module) -> None:
    """Remove the hook and give the text backbone and the towers the attention again that they had before."""
    base = unwrap(model)
    family = family_of(base)
    text = family.language_model(family.vision_language_model(base))
    for module in {base, text, *rotary_modules(text)}:
        for key, hook in list(module._forward_pre_hooks.items()):
            if hook in (merge_images, without_router_loss, refuse_beyond_range):
                del module._forward_pre_hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
    part_windows(family, family.vision_language_model(base))
    if text.config._attn_implementation == IMPLEMENTATION:
        _set_attention(base, text, _BEFORE.pop(text, "sdpa"))


def _set_attention(base: torch.nn.Module, text: torch.nn.Module, name: str) -> None:
    """Set the attention of the text backbone alone."""
    base.set_attn_implementation(name if text.config is base.config else {"text_config": name})


@contextmanager
def own_attention(model: torch.nn.Module) -> Iterator[bool]:
    """Give backbone and towers the attention that they had before `install_hooks`; yields whether it is another.

    SDPA is the same function as ours in every call of the text backbone without a shared pass, and stays replaced.
    """
    base = unwrap(model)
    family = family_of(base)
    text = family.language_model(family.vision_language_model(base))
    own = _BEFORE.get(text, "sdpa")
    vision_model = family.vision_language_model(base)
    is_other = text.config._attn_implementation == IMPLEMENTATION and own != "sdpa"
    is_joined = family.takes_images and part_windows(family, vision_model)
    if is_other:
        base.set_attn_implementation({"text_config": own})
    _AS_LOADED.add(text)
    try:
        yield is_other or is_joined
    finally:
        _AS_LOADED.discard(text)
        if is_other:
            base.set_attn_implementation({"text_config": IMPLEMENTATION})
        if is_joined:
            join_windows(family, vision_model)


def has_hooks(model: torch.nn.Module) -> bool:
    """Return whether `install_hooks` has been called on this model."""
    base = unwrap(model)
    family = family_of(base)
    return _is_hooked(family.language_model(family.vision_language_model(base)))


def check_family(family: Family, base: torch.nn.Module) -> None:
    """Check that the installed transformers computes several images of this family rightly."""
    if not is_at_least(*family.least_transformers):
        least = ".".join(map(str, family.least_transformers))
        raise IncompatibleVersionError(
            f"{type(base).__name__} ({base.config.model_type}) needs transformers {least} or later for prompts with "
            f"several images, but {transformers.__version__} is installed; pip install 'transformers>={least}'"
        )


def check_hook_points(base: torch.nn.Module, *, text: torch.nn.Module) -> None:
    """Check by their signatures that the parts exist which the hooks need."""
    check_names()
    if not takes_keywords(type(base).forward):
        raise IncompatibleVersionError(_message(base, "its forward takes no `**kwargs`"))
    accepted = inspect.signature(type(text).forward).parameters
    if "inputs_embeds" not in accepted or not takes_keywords(type(text).forward):
        raise IncompatibleVersionError(_message(text, "its forward takes no `inputs_embeds` or no `**kwargs`"))
    if (reason := selects_keys(text)) is not None:
        raise UnknownFamilyError(
            f"model type {base.config.model_type!r} is not served: {reason}, so that a row of a batch has other "
            "log-probabilities than alone; take a model without such layers"
        )


def merge_images(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Merge images into the token embeddings `[B, T, D]`, as a forward pre-hook of the text backbone."""
    shared: SharedPass | None = kwargs.get(PASS_KWARG)
    if shared is None:
        return None
    embeds_BTD = kwargs.get("inputs_embeds")
    if embeds_BTD is None and not shared.family.takes_images:
        return None
    if embeds_BTD is None:
        raise IncompatibleVersionError(_message(module, "it is called without `inputs_embeds` as a keyword"))
    kwargs = dict(kwargs)
    features = shared.features
    if features is None and shared.batch.images:
        features = encode(shared.family, shared.vision_model, shared.batch.images, device=embeds_BTD.device)
        shared.features = features
    if features is not None and shared.shown:
        features = features.select(shared.shown)
        plan = shared.plan.to(embeds_BTD.device)
        kwargs["inputs_embeds"] = shared.merge(embeds_BTD, features, plan)
        shared.family.before_language_model(
            kwargs, shared.vision_model.config, features=features, plan=plan, rows=shared.rows
        )
    elif features is None and _other_ranks_need_tower(module, shared):
        kwargs["inputs_embeds"] = touch_tower(shared.family, shared.vision_model, embeds_BTD)
    return args, kwargs


def without_router_loss(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Leave out the router loss of a whole model with experts, which would count a shared prompt once (a forward
    pre-hook).

    A config that asks for router logits makes it do so in every call; `RouterTap` computes the loss of a run.
    """
    return (args, {**kwargs, "output_router_logits": False}) if PASS_KWARG in kwargs else None


def _other_ranks_need_tower(text: torch.nn.Module, shared: SharedPass) -> bool:
    """Whether a rank without images has to run the tower too: for its gradients, or to gather its weights."""
    learns = torch.is_grad_enabled() and text.training and tower_is_trainable(shared.family, shared.vision_model)
    return learns or is_sharded(shared.vision_model)


def _is_hooked(text: torch.nn.Module) -> bool:
    return any(hook is merge_images for hook in text._forward_pre_hooks.values())


def _message(module: torch.nn.Module, what: str) -> str:
    return (
        f"cannot share prompts of {type(module).__name__} with transformers {transformers.__version__}: {what}; "
        f"tested with transformers {TESTED_TRANSFORMERS} and its own model classes; use one of those"
    )
