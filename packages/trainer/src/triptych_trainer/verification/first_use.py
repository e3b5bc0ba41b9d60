"""A model is compared with itself as transformers runs it, on prompts of the first batch, before it is sampled from.

At most two rows: the prompt with the most images, and the shortest one with another number of images. The last text
tokens of the prompt itself take the place of a completion, so that nothing has to be sampled first. The comparison
costs one forward of these rows, the stock one: the first tokens are sampled from the run's own first prefill, as soon
as that is there. Whether the prompt-sharing pass equals the plain one is found out when it is first used
(`forward/verify.py`).
"""

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from triptych_parser import Refusal

from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.prefill import OnPrefill, Prefilled
from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.forward.verify import SharingWarning, without_dropout
from triptych_trainer.models.families import FAMILIES, family_of
from triptych_trainer.models.load import is_about_memory
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from triptych_trainer.upstream.transformers_names import TESTED_TRANSFORMERS
from triptych_trainer.verification.comparison import ComparedRow, Comparison, Difference, OpenModel
from triptych_trainer.verification.first_tokens import has_own_generate
from triptych_trainer.verification.in_step import rows_in_step
from triptych_trainer.verification.ranks import of_ranks
from triptych_trainer.verification.stock_inputs import stock_inputs
from triptych_trainer.verification.swaps import same

__all__ = ["VerificationError", "chosen", "probe", "verify_comparison", "verify_first_use"]

NUM_PROBE_TOKENS = 16


class VerificationError(Refusal, RuntimeError):
    """Says that a model computes other log-probabilities here than transformers computes with the same model."""


def verify_first_use(
    model: torch.nn.Module,
    prompts: Sequence[PreparedPrompt],
    preparer: PromptPreparer,
    *,
    open_for_sampling: OpenModel | None,
    at_prefill: Callable[[OnPrefill], object] | None = None,
) -> None:
    """Compare on prompts of this rank's first batch; every rank calls this at the same time.

    Args:
        open_for_sampling: gives the model as it generates; None where another engine samples.
        at_prefill: takes what is to be called with the run's next prefill, of prompts of this batch: the comparison of
            what is sampled. By default the compared prompts are prefilled here, once more.

    Raises:
        VerificationError: by how much the model differs, on which row, by which input, and what to do.
    """
    if open_for_sampling is not None and has_own_generate(model):
        open_for_sampling = None
    found = [prompts[k] for k in chosen(prompts)]
    rows: Sequence[ComparedRow] = ()
    failure = None
    try:
        rows = [_row(prompt, preparer) for prompt in found]
    except Exception as error:
        failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if failures := [of_rank for of_rank in of_ranks(failure) if of_rank is not None]:
        _not_compared(unwrap(model), failures[0])  # on every rank, or one would wait for the others
        return
    batch = _batch(found)
    if is_sharded(unwrap(model)):
        batch, rows = rows_in_step(batch, rows)
    verify_comparison(model, batch, rows, open_for_sampling=open_for_sampling, at_prefill=at_prefill)


@torch.no_grad()
def verify_comparison(
    model: torch.nn.Module,
    batch: GroupBatch,
    rows: Sequence[ComparedRow],
    *,
    open_for_sampling: OpenModel | None = None,
    at_prefill: Callable[[OnPrefill], object] | None = None,
) -> None:
    """Compare on the prompts of ``batch``, of which ``rows[p]`` contains the stock inputs; all ranks decide together.

    The other arguments are those of `verify_first_use`.

    Raises:
        VerificationError: as above.
    """
    with without_dropout(model):
        try:
            comparison = Comparison(model, batch, rows)
        except Refusal:
            raise
        except Exception as error:  # an id that the embeddings do not have, patches of another size, ...
            if is_about_memory(error):
                raise
            base, reason = unwrap(model), " ".join(str(error).split())
            raise VerificationError(
                f"the own forward of {type(base).__name__} ({base.config.model_type}) refuses the ids or images of "
                f"{rows[0].where}: {reason}; use the processor that belongs to the model"
            ) from error
        if any(bool(logps_KV.isnan().any()) for logps_KV in comparison.stock):
            raise VerificationError(
                f"the own forward of {_named(comparison)} gives no numbers on {rows[0].where}: its weights contain NaN "
                "or infinite values, or overflow in its precision; give another checkpoint, or --dtype bfloat16 or "
                "float32"
            )
        with _refusing_failures(comparison):
            _refuse_other_inputs(comparison, is_sampled=open_for_sampling is not None)
            if open_for_sampling is None:
                return
            if at_prefill is None or not family_of(unwrap(model)).prefills:
                _refuse_other_samples(comparison, comparison.sampling(open_for_sampling))
            else:
                at_prefill(partial(_verify_prefill, comparison))


@torch.no_grad()
def _verify_prefill(comparison: Comparison, model: torch.nn.Module, batch: GroupBatch, begun: Prefilled) -> None:
    """Compare what the first tokens are sampled from, after prompts that the run has prefilled with others.

    A prefill with dropout, or of other prompts (an environment has changed them), cannot be compared: then the compared
    prompts are prefilled once more, without it.
    """
    places = [_place(comparison.batch, p, batch) for p in range(len(comparison.rows))]
    known = [place for place in places if place is not None]
    has_all = len(known) == len(places)
    if comparison.sharded:
        has_all = all(of_ranks(has_all))  # none prefills alone
    drops = any(module.training for module in model.modules() if isinstance(module, torch.nn.Dropout))
    with _refusing_failures(comparison), without_dropout(model):
        opened = partial(nullcontext, model)
        picked = begun.pick(known) if has_all else None
        difference = comparison.sampling(opened, begun=picked)
        if not difference.holds and drops:
            difference = comparison.sampling(opened)
        _refuse_other_samples(comparison, difference)


def _place(batch: GroupBatch, prompt: int, others: GroupBatch) -> int | None:
    """Which prompt of a batch has the ids and images of this one."""
    wanted = batch.prompts[prompt], batch.spans[prompt]
    images = batch.images_of(prompt)
    for p, found in enumerate(zip(others.prompts, others.spans, strict=True)):
        if found == wanted and same(others.images_of(p), images):
            return p
    return None


@contextmanager
def _refusing_failures(comparison: Comparison) -> Iterator[None]:
    """The generic adapter may fail in any way on a model that it does not describe."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        if _is_tested(unwrap(comparison.model)):
            raise
        raise VerificationError(_of_failure(comparison, error)) from error


def _refuse_other_inputs(comparison: Comparison, *, is_sampled: bool) -> None:
    if not comparison.agrees_at_once(attention_follows=is_sampled):
        if not (difference := comparison.inputs()).holds:
            raise VerificationError(_of_inputs(comparison, difference))
        if not (difference := comparison.attention()).holds:
            raise VerificationError(_of_attention(comparison, difference))


def _refuse_other_samples(comparison: Comparison, difference: Difference) -> None:
    if difference.holds:
        return
    message = _of_sampling(comparison, difference)
    if not (of_attention := comparison.attention()).holds:
        message = _of_attention(comparison, of_attention)
    raise VerificationError(message)


def chosen(prompts: Sequence[PreparedPrompt]) -> list[int]:
    """Return the prompt with the most images, then the shortest, and the shortest of the others, best with another
    number of images.
    """
    if not prompts:
        return []
    order = sorted(range(len(prompts)), key=lambda k: (-len(prompts[k].spans), len(prompts[k].ids)))
    first = order[0]
    others = sorted(
        order[1:],
        key=lambda k: (len(prompts[k].spans) == len(prompts[first].spans), len(prompts[k].ids)),
    )
    return [first, *others[:1]]


def probe(prompt: PreparedPrompt, *, special_ids: Collection[int]) -> tuple[int, ...]:
    """Return tokens that represent a completion: the prompt's last text tokens, or its first token if it has none."""
    images = {place for span in prompt.spans for start, count in span.runs for place in range(start, start + count)}
    text = [token for place, token in enumerate(prompt.ids) if place not in images and token not in special_ids]
    return tuple(text[-NUM_PROBE_TOKENS:]) or (prompt.ids[0],)


def _row(prompt: PreparedPrompt, preparer: PromptPreparer) -> ComparedRow:
    tokenizer = getattr(preparer.processor, "tokenizer", preparer.processor)
    return ComparedRow(
        where=f"{prompt.example.source}: example {prompt.example.id}",
        inputs=stock_inputs(prompt, preparer),
        completion=probe(prompt, special_ids=set(tokenizer.all_special_ids)),
    )


def _batch(prompts: Sequence[PreparedPrompt]) -> GroupBatch:
    return GroupBatch.build(
        [prompt.ids for prompt in prompts],
        spans=[prompt.spans for prompt in prompts],
        images=[inputs for prompt in prompts for inputs in prompt.image_inputs],
    )


def _not_compared(base: torch.nn.Module, reason: str) -> None:
    """Warn for a model type of the table; refuse any other, of which nothing is known."""
    what = f"{type(base).__name__} ({base.config.model_type}) cannot be compared with its own forward: its processor "
    if _is_tested(base):
        warnings.warn(f"{what}ends in {reason}", SharingWarning, stacklevel=3)
        return
    raise VerificationError(
        f"{what}ends in {reason}; correct what the error names, or pass this check with --verify_model off"
    )


def _is_tested(base: torch.nn.Module) -> bool:
    return any(base.config.model_type in family.model_types for family in FAMILIES)


def _of_failure(comparison: Comparison, error: Exception) -> str:
    return (
        f"{_named(comparison)} runs by its own forward but not through the adapter for unknown types, on "
        f"{comparison.rows[0].where}: {type(error).__name__}: {' '.join(str(error).split())}; write an adapter for it "
        "(docs/add-a-family.md)"
    )


def _of_inputs(comparison: Comparison, difference: Difference) -> str:
    causes = comparison.causes()
    because = f", because of its {' and '.join(causes)}" if causes else ""
    return (
        f"the log-probabilities of {_named(comparison)} differ from its own forward by "
        f"{_amount(comparison, difference)}{because}; write an adapter for it (docs/add-a-family.md), install "
        f"transformers {TESTED_TRANSFORMERS}, or pass this check with --verify_model off"
    )


def _of_attention(comparison: Comparison, difference: Difference) -> str:
    return (
        f"the attention of {_named(comparison)} is computed differently while prompts are shared, "
        f"by {_amount(comparison, difference)}; load it with --attn_implementation sdpa, or pass this check with "
        "--verify_model off"
    )


def _of_sampling(comparison: Comparison, difference: Difference) -> str:
    return (
        f"{_named(comparison)} would sample its first tokens from another distribution than its own forward gives, "
        f"by {_amount(comparison, difference)}, because its `generate` does not go on from the positions of a prompt's "
        "cache, or changes the logits; sample with --use_vllm, write `continue_generation` of its adapter "
        "(docs/add-a-family.md), or pass this check with --verify_model off"
    )


def _named(comparison: Comparison) -> str:
    base = unwrap(comparison.model)
    return f"{type(base).__name__} ({base.config.model_type})"


def _amount(comparison: Comparison, difference: Difference) -> str:
    return f"{difference.found:.2g} per token on {comparison.where} (rounding: at most {difference.allowed:.2g})"
