"""Completions by vLLM: the weights of this step are sent first, and what a step waited for goes to TRL's log."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from triptych_trainer.grpo.step import Sampled, Sampler
from triptych_trainer.grpo.vllm import (
    AskedGeneration,
    Request,
    anywhere,
    ask_ahead,
    engine_sleeps,
    let_sleep,
    next_turns,
    payload_of,
    request,
    send_weights,
    vllm_rollouts,
)
from triptych_trainer.models.families import family_of
from triptych_trainer.models.learning_rates import trainable_vision_parameters
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.upstream.trl_names import profiling_context

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.ahead import Begun
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["SendsAnew", "ask_vllm", "update_vllm", "update_vllm_now", "vllm_sampler"]

NOTHING_LOADED = -1
"""TRL's number of the step whose weights vLLM has, before any were sent."""


def vllm_sampler(
    trainer: "MultiImageGRPOTrainer",
    begun: "Begun | None",
    *,
    read: Callable[[PreparedPrompt, Sequence[int]], Sequence[Mapping[str, Any]]],
    end_ids: frozenset[int],
) -> Sampler:
    """Return a sampler that asks vLLM, once for each turn; ``begun`` is what a server was asked before."""
    backend = trainer.vllm_generation
    several = trainer.play is not None
    spent: Counter[str] = Counter()
    options = {"stop_token_ids": _message_ends(trainer)}

    def ask(requests: Sequence[Request]) -> list[list[Sampled]]:
        update_vllm(trainer)
        return vllm_rollouts(
            backend,
            requests,
            banned_ids=_banned_ids(trainer),
            profiler=profiling_context(trainer, "vLLM.generate"),
            options=options,
            stays_awake=several,
        )

    def sample(groups: Sequence[RolloutGroup], sizes: Sequence[int]) -> list[list[Sampled]]:
        with _counted(trainer, spent):
            if begun is None:
                completions = ask(_requests(trainer, [group.prompt for group in groups], sizes))
            else:
                assert trainer.ahead is not None
                with profiling_context(trainer, "vLLM.generate"):
                    completions = trainer.ahead.wait_for(trainer, begun)
                spent["lag"] = trainer.state.global_step - begun.version
        if not several:
            _log(trainer, spent)
        return completions

    def go_on(groups: Sequence[RolloutGroup], max_tokens: int) -> list[Sampled]:
        with _counted(trainer, spent):
            found = ask(next_turns(groups, trainer.preparer, max_tokens=max_tokens))
        return [one for (one,) in found]

    def let_go() -> None:
        let_sleep(backend)
        _log(trainer, spent)

    return Sampler(
        sample=sample,
        read=read,
        end_ids=end_ids,
        policy_version=trainer.state.global_step if begun is None else begun.version,
        go_on=go_on,
        anywhere=lambda mine: anywhere(backend, mine),
        let_go=let_go,
    )


def ask_vllm(
    trainer: "MultiImageGRPOTrainer", prompts: Sequence[PreparedPrompt], sizes: Sequence[int]
) -> AskedGeneration:
    """Ask a server for completions by the present weights, and do not wait for them."""
    update_vllm(trainer)
    requests = _requests(trainer, prompts, sizes)
    options = {"stop_token_ids": _message_ends(trainer)}
    return ask_ahead(trainer.vllm_generation, requests, banned_ids=_banned_ids(trainer), options=options)


@contextmanager
def _counted(trainer: "MultiImageGRPOTrainer", spent: "Counter[str]") -> Iterator[None]:
    """Count how long the trainer waits, and what a server is sent meanwhile."""
    began = time.perf_counter()
    yield
    spent.update({"wait_seconds": time.perf_counter() - began, **payload_of(trainer.vllm_generation)})  # type: ignore[dict-item]


def _log(trainer: "MultiImageGRPOTrainer", spent: "Counter[str]") -> None:
    """Give what was counted for one generation to TRL's log."""
    metrics = trainer._metrics["train" if trainer.model.training else "eval"]
    for name, value in spent.items():
        metrics[f"sampling/{name}"].append(value)
    spent.clear()


def _requests(
    trainer: "MultiImageGRPOTrainer", prompts: Sequence[PreparedPrompt], sizes: Sequence[int]
) -> list[Request]:
    pairs = zip(prompts, sizes, strict=True)
    return [request(prompt, trainer.preparer, num_completions=size) for prompt, size in pairs]


def _banned_ids(trainer: "MultiImageGRPOTrainer") -> Sequence[int]:
    base = unwrap(trainer.model)
    return list(family_of(base).image_token_ids(base.config))


def _message_ends(trainer: "MultiImageGRPOTrainer") -> list[int]:
    """Tokens at which a completion ends; vLLM knows those of the folder that it serves, which need not be all."""
    given = (trainer.args.generation_kwargs or {}).get("stop_token_ids") or ()
    return sorted({token for token in (*trainer.eos_token_ids, *given) if token is not None})


class SendsAnew(TrainerCallback):
    """Sends vLLM the weights again when a training begins and after it has ended.

    The number of the step does not show weights that changed between two trainings, or were loaded at the end as
    the best ones (``--load_best_model_at_end``).
    """

    def __init__(self, trainer: "MultiImageGRPOTrainer") -> None:
        """Forget what was sent, for this trainer."""
        self.trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Take the weights as new, and ask for every generation again."""
        self.trainer._last_loaded_step = NOTHING_LOADED
        if self.trainer.ahead is not None:
            self.trainer.ahead.forget()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Take the weights as new."""
        self.trainer._last_loaded_step = NOTHING_LOADED


def update_vllm_now(trainer: "MultiImageGRPOTrainer") -> None:
    """Send vLLM the weights before others than this trainer ask it, for example a `rollout_func`."""
    update_vllm(trainer)
    if trainer.args.vllm_mode == "server":  # it loads a folder of weights when it is asked next, if only for nothing
        vllm_rollouts(trainer.vllm_generation, (), banned_ids=_banned_ids(trainer))


def update_vllm(trainer: "MultiImageGRPOTrainer") -> None:
    """Send vLLM the weights if it does not have those of this step, or has put them away.

    A server may have served another run before, so that even a frozen tower is taken as another one the first time.
    """
    step, backend = trainer.state.global_step, trainer.vllm_generation
    if step == trainer._last_loaded_step and not engine_sleeps(backend):
        return
    is_first = trainer._last_loaded_step == NOTHING_LOADED
    with profiling_context(trainer, "sync_weights"):
        send_weights(backend, tower_moved=is_first or bool(trainable_vision_parameters(trainer.model)))
    trainer._last_loaded_step = step
