"""What ``--generation_kwargs`` may say of sampling, and what has an option of its own or cannot be set."""

from collections.abc import Callable, Mapping
from typing import Any

from triptych_data.option_parser import nearest
from trl import GRPOConfig

from triptych_trainer.errors import UsageError

__all__ = ["check_generation_kwargs", "reshaping"]

Rule = tuple[Callable[[Any], bool], str]
_SHARE: Rule = (lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1")
_COUNT: Rule = (lambda value: isinstance(value, int) and value >= 0, "a whole number from 0 on")
_SECONDS: Rule = (lambda value: _is_number(value) and value > 0, "a number of seconds above 0")
_FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
_IDS: Rule = (lambda value: _is_list(value, int), "a list of token ids")
_TEXTS: Rule = (
    lambda value: bool(value) and _is_list(value, (list, tuple)) and all(ids and _is_list(ids, int) for ids in value),
    "a list of lists of token ids",
)
_BIASES: Rule = (
    lambda value: (
        bool(value)
        and _is_list(value, (list, tuple))
        and all(len(entry) == 2 and _is_list(entry[0], int) for entry in value)
    ),
    "a list of [[token ids], bias]",
)
_PAIR: Rule = (lambda value: _is_list(value, (int, float)) and len(value) == 2, "[first token, factor]")
SAMPLING: Mapping[str, Rule] = {
    **dict.fromkeys(("typical_p", "top_h", "epsilon_cutoff", "eta_cutoff"), _SHARE),
    **dict.fromkeys(("no_repeat_ngram_size", "min_new_tokens"), _COUNT),
    **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens"), _IDS),
    **dict.fromkeys(("renormalize_logits", "remove_invalid_values", "disable_compile"), _FLAG),
    "bad_words_ids": _TEXTS,
    "sequence_bias": _BIASES,
    "exponential_decay_length_penalty": _PAIR,
    "max_time": _SECONDS,
}
"""Arguments of transformers' generation that say how the next token is sampled and nothing else, and their values."""
_OPTIONS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_ENDS = ("eos_token_id", "pad_token_id", "bos_token_id")
_LENGTHS = ("max_new_tokens", "max_length", "max_tokens")
_OF_THE_RUN = (
    *("n", "logprobs", "prompt_logprobs", "logprob_token_ids", "prompt_logprob_token_ids", "flat_logprobs"),
    *("output_kind", "detokenize", "truncate_prompt_tokens"),
)
"""Sampling parameters of vLLM that decide about the form of its answers."""
_RESHAPING = (
    *("presence_penalty", "frequency_penalty", "min_tokens", "bad_words", "allowed_token_ids"),
    *("structured_outputs", "thinking_token_budget", "logit_bias"),
)
"""Sampling parameters of vLLM that change the probabilities of tokens."""
_OF_VLLM = (
    *("seed", "stop", "stop_token_ids", "ignore_eos", "skip_special_tokens", "spaces_between_special_tokens"),
    *("include_stop_str_in_output", "skip_reading_prefix_cache", "repetition_detection", "extra_args"),
    *_RESHAPING,
)
"""What else vLLM is told; a server would ignore a name that it does not know."""


def check_generation_kwargs(args: GRPOConfig) -> None:
    """Check that generation is told only how to sample, and nothing that other parts of the run would not know.

    Its cache is the prompts' own, and it writes one row for each completion: beam search, candidates, other caches and
    other outputs do not go on from there. vLLM checks the values of its own arguments.

    Raises:
        UsageError: names the argument.
    """
    given = args.generation_kwargs or {}
    for name, value in given.items():
        if reason := _refused(name, value, use_vllm=args.use_vllm):
            raise UsageError(f"--generation_kwargs {name}: {reason}")


def reshaping(given: Mapping[str, Any] | None) -> list[str]:
    """Return the arguments by which vLLM samples from other probabilities than those that the trainer scores."""
    return [name for name in _RESHAPING if (given or {}).get(name)]


def _refused(name: str, value: Any, *, use_vllm: bool) -> str | None:
    """The reason why an argument is refused, and what to do; None if it is accepted."""
    if name in _OPTIONS:
        return f"the log-probabilities are scored with the run's own value; set --{name}"
    if name in _LENGTHS:
        return "set --max_completion_length; leave it out"
    if name in _ENDS:
        return "it would end rows where the rest of the run does not; set it in the generation_config.json of the model"
    if use_vllm:
        return _refused_with_vllm(name)
    if name == "do_sample":
        if value is True:
            return None
        return "the completions of a group would all be equal, so that nothing could be learned; leave it out"
    if name in SAMPLING:
        holds, expected = SAMPLING[name]
        return None if value is None or holds(value) else f"expects {expected}, got {value!r}"
    return (
        "completions are sampled token by token, all from the cache of their prompt; leave it out"
        f"{nearest(name, (*SAMPLING, *_OPTIONS))} (taken are: {', '.join(SAMPLING)})"
    )


def _refused_with_vllm(name: str) -> str | None:
    if name in _OF_THE_RUN:
        return "the run sets it itself; leave it out"
    if name in _OF_VLLM:
        return None
    return (
        f"a run passes no such sampling parameter to vLLM; leave it out{nearest(name, _OF_VLLM)} (taken are: "
        f"{', '.join(_OF_VLLM)})"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_list(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, kind) for item in value)
