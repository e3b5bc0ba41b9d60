"""Options of rollouts by vLLM that cannot be compared with what is trained: refused in one sentence."""

from trl import GRPOConfig

from triptych_trainer.errors import UsageError
from triptych_trainer.options.generation_kwargs import reshaping

__all__ = [
    "check_kept",
    "check_lag_on_ranks",
    "check_rollout_lag",
    "check_sends_adapters",
    "check_vllm",
    "other_probabilities",
    "scores_kept",
]


def check_vllm(args: GRPOConfig) -> None:
    """Check that what vLLM samples can be compared with what is trained.

    Raises:
        UsageError: names the option, why it cannot be used, and what to set instead.
    """
    if not args.use_vllm:
        return
    if args.vllm_importance_sampling_correction and (cuts := other_probabilities(args)):
        raise UsageError(
            f"{', '.join(cuts)}: vLLM then samples from other probabilities than the trainer scores, so that the "
            "correction by their ratio would be wrong; leave "
            f"{'it' if len(cuts) == 1 else 'them'} out, or set --vllm_importance_sampling_correction false"
        )


def check_rollout_lag(lag: int, args: GRPOConfig, *, has_turns: bool = False) -> None:
    """Check that rollouts can be sampled ahead of the training, and corrected for it.

    Raises:
        UsageError: says what to set instead.
    """
    if lag == 0:
        return
    if lag < 0:
        raise UsageError(f"--rollout_lag {lag}: expected 0 or more generations")
    if not args.use_vllm or args.vllm_mode != "server":
        raise UsageError(
            f"--rollout_lag {lag}: only a vLLM server samples while the trainer works; start one with `triptych serve` "
            "and add --use_vllm true --vllm_mode server, or leave it out"
        )
    if has_turns:
        raise UsageError(
            f"--rollout_lag {lag}: the turns after a tool's result, and the rollouts of a rollout_func, are sampled "
            "while the trainer waits; leave out the lag, or the tools, or the function"
        )
    if not args.vllm_importance_sampling_correction:
        raise UsageError(
            f"--rollout_lag {lag}: completions of older weights have to be corrected for; leave out "
            "--vllm_importance_sampling_correction false, or the lag"
        )


def check_lag_on_ranks(lag: int, *, shards_weights: bool) -> None:
    """Check that every rank has all weights where rollouts are sampled ahead.

    Raises:
        UsageError: says what to use instead.
    """
    if lag and shards_weights:
        raise UsageError(
            f"--rollout_lag {lag}: sending weights that ranks share (FSDP, ZeRO-3) was never tried while a server "
            "samples; leave out --rollout_lag, or use DDP or ZeRO-2"
        )


def check_sends_adapters(*, use_vllm: bool, has_adapters: bool, fsdp: bool) -> None:
    """Check that adapters can be merged into copies of the weights, to be sent to vLLM.

    Raises:
        UsageError: says what to use instead.
    """
    if use_vllm and has_adapters and fsdp:
        raise UsageError(
            "--use_vllm with adapters under FSDP: merging adapters into weights that ranks share, to send them to "
            "vLLM, would round the weights of the model a little more at each step, and was never run; use DDP or "
            "ZeRO, or leave out --use_vllm or --use_peft"
        )


def scores_kept(args: GRPOConfig) -> bool:
    """Return whether vLLM cuts tokens off, and the trainer scores each token among those that vLLM kept."""
    return bool(args.use_vllm and args.vllm_importance_sampling_correction and _cuts(args))


def check_kept(args: GRPOConfig, *, rollout_func: object) -> None:
    """Check that what a `rollout_func` samples is not cut, because it does not return the tokens that were kept.

    Raises:
        UsageError: says what to leave out.
    """
    if rollout_func is not None and scores_kept(args):
        raise UsageError(
            f"{', '.join(_cuts(args))} with rollout_func: a function returns its log-probabilities and not the tokens "
            "that were kept, so that the trainer cannot score over the same tokens; leave out the cut, or set "
            "--vllm_importance_sampling_correction false"
        )


def other_probabilities(args: GRPOConfig) -> list[str]:
    """Return the options that let vLLM sample from other probabilities than the trainer scores, as they were given."""
    cuts = [] if scores_kept(args) else _cuts(args)
    if args.repetition_penalty != 1.0:
        cuts.append(f"--repetition_penalty {args.repetition_penalty:g}")
    if args.vllm_structured_outputs_regex:
        cuts.append("--vllm_structured_outputs_regex")
    return [*cuts, *(f"--generation_kwargs {name}" for name in reshaping(args.generation_kwargs))]


def _cuts(args: GRPOConfig) -> list[str]:
    """The options that let vLLM sample from the likeliest tokens only, as they were given."""
    found = [(name, getattr(args, name)) for name in ("top_p", "top_k", "min_p")]
    return [
        f"--{name} {value:g}"
        for name, value in found
        if value is not None and (value < 1.0 if name == "top_p" else value > 0)
    ]
