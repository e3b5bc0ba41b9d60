"""The prompts that generation has forwarded, kept until the one policy pass that goes on from them."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch

from triptych_trainer.forward import GroupBatch, ImageFeatures
from triptych_trainer.forward.logps import Result, continued_logps
from triptych_trainer.forward.prompt_graph import KeptPrompts, why_not_once
from triptych_trainer.forward.verify import SharingWarning, agreement_with_plain
from triptych_trainer.models.unwrap import unwrap

__all__ = ["PromptsOnce"]


class PromptsOnce:
    """Keeps prompts with their graph between a generation and its policy pass, which takes them once.

    The first policy pass of a model is compared with the plain pass, and the prompts are forwarded in each pass again
    where they differ.
    """

    def __init__(self, *, enabled: bool, verify: bool) -> None:
        """With ``enabled`` each generation is trained on in one pass, before the weights move."""
        self.enabled = enabled
        self.verify = verify
        self.taken = 0
        """Policy passes that went on from a generation."""
        self._kept: tuple[dict[int, int], KeptPrompts] | None = None
        self._verdicts: weakref.WeakKeyDictionary[torch.nn.Module, bool] = weakref.WeakKeyDictionary()

    def keeper(self, model: torch.nn.Module, *, keys: Sequence[int]) -> Callable[[KeptPrompts], object] | None:
        """Return the function to which a generation gives its forwarded prompts, or None if nothing is to be kept."""
        base = unwrap(model)
        if not (self.enabled and base.training and self._verdicts.get(base, True)) or why_not_once(base) is not None:
            return None

        def keep(kept: KeptPrompts) -> None:
            self._kept = {key: number for number, key in enumerate(keys)}, kept

        return keep

    def forget(self) -> None:
        """Drop the prompts and their graph."""
        self._kept = None

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The keys and values that are kept now."""
        return [] if self._kept is None else [tensor for state in self._kept[1].states for tensor in state]

    def logps(
        self,
        model: torch.nn.Module,
        batch: GroupBatch,
        *,
        keys: Sequence[int],
        known_features: Callable[[], ImageFeatures | None],
        **arguments: Any,
    ) -> Result | None:
        """Return the scores of a policy pass that goes on from what was kept, or None if that is not of these prompts.

        The comparison at first use takes ``known_features`` and then encodes nothing.
        """
        if self._kept is None or batch.has_completion_images:
            return None
        numbers, kept = self._kept
        self.forget()
        base = unwrap(model)
        if not all(key in numbers for key in keys):
            return None
        if not batch.max_completion_tokens:  # no model takes a row without tokens
            return None
        found = continued_logps(model, batch, kept.pick([numbers[key] for key in keys]), **arguments)
        if self.verify and base not in self._verdicts:
            agreement = agreement_with_plain(
                model, batch, found[0].detach(), temperature=arguments["temperature"], features=known_features()
            )
            self._verdicts[base] = agreement.holds
            if not agreement.holds:
                warnings.warn(
                    f"a policy pass of {type(base).__name__} that goes on from what generation forwarded differs from "
                    f"its plain pass by {agreement.difference:.2g} per token on {agreement.num_tokens} tokens (allowed "
                    f"{agreement.tolerance:.2g}); prompts are forwarded in each pass, which is slower, but "
                    "equally correct. Please report the model and the transformers version.",
                    SharingWarning,
                    stacklevel=2,
                )
                return None
        self.taken += 1
        return found
