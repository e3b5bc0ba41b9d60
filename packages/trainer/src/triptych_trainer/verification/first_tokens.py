"""What `shared_generate` samples from at the first tokens, read while it is led along a known completion."""

import warnings
from collections.abc import Sequence

import torch
from transformers import GenerationConfig, LogitsProcessor

from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.generate import shared_generate
from triptych_trainer.forward.prefill import Prefilled
from triptych_trainer.models.unwrap import unwrap

__all__ = ["NUM_TOKENS", "has_own_generate", "sampling_distributions"]

NUM_TOKENS = 3
"""The first token follows the prompt's cache, the second one a decoded token, the third one is as all others."""


def has_own_generate(model: torch.nn.Module) -> bool:
    """Return whether a script has put a function of its own in the place of this object's `generate`, and warn if so.

    A model class that defines `generate` is no such case.
    """
    found = any("generate" in vars(one) for one in (model, unwrap(model)))
    if found:
        warnings.warn(
            f"`generate` of this {type(unwrap(model)).__name__} was replaced by a function of the script, so the "
            "tokens that it samples are not compared with the model's own distribution",
            stacklevel=2,
        )
    return found


class _Led(LogitsProcessor):
    """Forces the known token at every step, and keeps what would have been sampled from.

    A rank that waits for others forwards on without it.
    """

    def __init__(self, completions: Sequence[Sequence[int]]) -> None:
        self.completions = completions
        self.seen: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        known_B = torch.tensor([ids[len(self.seen)] for ids in self.completions], device=scores.device)
        self.seen.append(scores.float())
        return torch.full_like(scores, -torch.inf).scatter(1, known_B[:, None], 0.0)


def sampling_distributions(
    model: torch.nn.Module,
    batch: GroupBatch,
    completions: Sequence[Sequence[int]],
    *,
    begun: Prefilled | None = None,
    most: int = NUM_TOKENS,
) -> torch.Tensor:
    """Return the log-probabilities [P, K, V] of at most ``most`` tokens after each prompt of a left-padded batch.

    Row p is led along ``completions[p]``. The values are the model's own, before any setting of the sampling. With
    ``begun`` the prompts have been prefilled.
    """
    num_tokens = min(most, *(len(ids) for ids in completions))
    never = 1 + max(token for ids in completions for token in ids)  # none of the known tokens ends a row
    led = _Led(completions)
    shared_generate(
        model,
        batch,
        num_generations=1,
        generation_config=GenerationConfig(
            do_sample=False, max_new_tokens=num_tokens, pad_token_id=0, eos_token_id=never
        ),
        suppress_ids=(),
        begun=begun,
        logits_processor=[led],
    )
    return torch.stack(led.seen, dim=1).log_softmax(-1)
