"""Groups as plain values and tensors, for checkpoints: what their rows do not say. Messages and calls are left out."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from triptych_parser import ImageSpan, Refusal

from triptych_trainer.rollouts.rollout import ArrivedImage, Rollout, RolloutGroup

__all__ = ["Begin", "OtherPromptError", "groups_from_state", "groups_to_state"]

Begin = Callable[[int, Sequence[str | Image.Image]], RolloutGroup]
"""From a key and what an environment showed first to the group without rollouts, its prompt prepared again."""
_NOT_PLAIN = ("messages", "images", "calls", "unread", "steps", "for_rewards")
_PLAIN = tuple(name for name in Rollout.__slots__ if name not in _NOT_PLAIN)


class OtherPromptError(Refusal):
    """Says that a row has another prompt than the rollouts of a checkpoint were sampled after."""


def groups_to_state(groups: Sequence[RolloutGroup]) -> dict[str, Any]:
    """Return the groups, and the images that arrived in their rollouts, each of them once, under its digest."""
    images: dict[str, dict[str, torch.Tensor]] = {}
    for group in groups:
        for rollout in group.rollouts:
            images.update({image.digest: dict(image.inputs) for image in rollout.images})
    return {"groups": [_group_to_state(group) for group in groups], "images": images}


def groups_from_state(state: Mapping[str, Any], *, begin: Begin) -> tuple[RolloutGroup, ...]:
    """Return the groups that `groups_to_state` wrote.

    Raises:
        OtherPromptError: ``begin`` made another prompt, as where a transform of a dataset draws at random.
    """
    found = []
    for kept in state["groups"]:
        shown = [_piece(value) for value in kept.get("observation", ())]
        group = begin(kept["key"], shown)
        if kept.get("prompt_ids"):
            spans = tuple(ImageSpan(**span) for span in kept["prompt_spans"])
            prompt = replace(group.prompt, ids=list(kept["prompt_ids"]), spans=spans, ending=kept["prompt_ending"])
            group = replace(group, prompt=prompt, has_own_ids=True)
        if kept.get("prompt_digest", digest := _prompt_digest(group)) != digest:
            raise OtherPromptError(
                f"{group.prompt.example.source} has another prompt than when the checkpoint was written"
            )
        found.append(group.with_rollouts([_rollout(one, state.get("images", {})) for one in kept["rollouts"]]))
    return tuple(found)


def _group_to_state(group: RolloutGroup) -> dict[str, Any]:
    own = {}
    if group.has_own_ids:
        prompt = group.prompt
        own = {
            "prompt_ids": list(prompt.ids),
            "prompt_spans": list(map(_span_to_state, prompt.spans)),
            "prompt_ending": prompt.ending,
        }
    return {
        **own,
        "key": group.key,
        "prompt_digest": _prompt_digest(group),
        "observation": [
            piece
            if isinstance(piece, str)
            else torch.from_numpy(np.array(piece if piece.mode == "RGB" else piece.convert("RGBA")))
            for piece in group.observation
        ],
        "rollouts": [
            {**{name: getattr(rollout, name) for name in _PLAIN}, "images": list(map(_image_to_state, rollout.images))}
            for rollout in group.rollouts
        ],
    }


def _prompt_digest(group: RolloutGroup) -> str:
    """A digest of the token ids, and of the row's images that are no files; without those of an environment, which a
    checkpoint contains in another mode.
    """
    arrived = sum(not isinstance(piece, str) for piece in group.observation)
    images = group.prompt.example.images
    own = [image.key for image in images[: len(images) - arrived] if isinstance(image.ref, (bytes, Image.Image))]
    return hashlib.blake2b(repr((list(group.prompt.ids), own)).encode(), digest_size=16).hexdigest()


def _image_to_state(image: ArrivedImage) -> dict[str, Any]:
    names = ("digest", "turn", "owner", "rollout", "model_size")
    return {**{name: getattr(image, name) for name in names}, "span": _span_to_state(image.span)}


def _span_to_state(span: ImageSpan) -> dict[str, Any]:
    return {name: getattr(span, name) for name in ImageSpan.__slots__}


def _rollout(kept: Mapping[str, Any], inputs: Mapping[str, Mapping[str, torch.Tensor]]) -> Rollout:
    images = tuple(
        ArrivedImage(**{**image, "span": ImageSpan(**image["span"])}, inputs=inputs[image["digest"]])
        for image in kept.get("images", ())
    )
    return Rollout(**{**kept, "images": images}, messages=())


def _piece(value: str | torch.Tensor) -> str | Image.Image:
    return value if isinstance(value, str) else Image.fromarray(value.numpy())
