"""What `eval`, `rollout` and `score` share: the rewards, the model, and how completions are sampled from it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig
from triptych_data.options import ModelOptions
from trl import ModelConfig

from triptych_trainer.errors import UsageError
from triptych_trainer.models.load import load_model
from triptych_trainer.options.refusals import check_ends
from triptych_trainer.options.sampling_options import SamplingOptions
from triptych_trainer.options.values import check_weights
from triptych_trainer.rewards.loading import PREFIX
from triptych_trainer.rewards.read import read_rewards
from triptych_trainer.rewards.reward_model import reward_name

__all__ = ["generation_config", "model_to_sample", "named_weights", "reward_functions"]


def reward_functions(specs: Sequence[str], *, has_environment: bool = False) -> list[Callable[..., Any]]:
    """Return the reward functions that ``--reward`` names, loaded as a run loads them.

    Raises:
        UsageError: one cannot be loaded, or is a model.
    """
    if models := [spec for spec in specs if spec.startswith(PREFIX)]:
        raise UsageError(
            f"--reward {models[0]}: expected reward functions, got a reward model, which scores only while `train` "
            "runs; leave it out here"
        )
    return read_rewards(specs, has_environment=has_environment)


def named_weights(rewards: Sequence[Callable[..., Any]], weights: Sequence[float] | None) -> dict[str, float]:
    """Return the weights that ``--reward_weights`` gives, by the names of the rewards; empty if it was not given.

    Raises:
        UsageError: there are more or fewer weights than rewards, or they leave nothing of the rewards.
    """
    if weights is None:
        return {}
    if len(weights) != len(rewards):
        raise UsageError(
            f"--reward_weights expects one number for each of the {len(rewards)} rewards, got {len(weights)}"
        )
    check_weights(weights)
    return {reward_name(reward): weight for reward, weight in zip(rewards, weights, strict=True)}


def model_to_sample(path: str, loading: ModelOptions, *, dtype: str, option: str) -> torch.nn.Module:
    """Return a model or a folder of adapters on the accelerator that is here, in evaluation mode.

    Raises:
        UsageError: nothing at ``path`` can be loaded; ``option`` is what it is called.
    """
    config = ModelConfig(dtype=dtype, model_revision=loading.model_revision or "main")
    model: torch.nn.Module = load_model(path, config, trust_remote_code=loading.trust_remote_code, option=option)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    return model.eval()


def generation_config(processor: Any, own: GenerationConfig, options: SamplingOptions) -> GenerationConfig:
    """Return how completions are sampled and end; the end tokens of the model's ``own`` config count as well."""
    ends = own.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    ends += [processor.tokenizer.eos_token_id] * (processor.tokenizer.eos_token_id not in ends)
    check_ends(ends)
    sampling: dict[str, Any] = {"do_sample": False}
    if options.temperature > 0:
        sampling = {"do_sample": True, "temperature": options.temperature, "top_k": 0, "top_p": 1.0}
    pad = processor.tokenizer.pad_token_id
    return GenerationConfig(
        max_new_tokens=options.max_completion_length,
        eos_token_id=ends,
        pad_token_id=ends[0] if pad is None else pad,
        **sampling,
    )
