"""Name the function, the sample and the completion when a reward function fails or returns something unusable."""

import functools
import inspect
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

from triptych_parser import Refusal

from triptych_trainer.rewards.completion import completion_text
from triptych_trainer.rewards.judge_error import JudgeError
from triptych_trainer.rewards.process_settings import changed_setting, process_settings
from triptych_trainer.rewards.row import Completion, Reward, is_column

SHOWN_CHARACTERS = 200
LARGEST = 1e18
"""The largest reward: the squares of larger ones, which their spread needs, are infinite as float32."""
_MISSING = re.compile(r"(\S+)\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)")
FAILURES = (Exception, SystemExit)
"""What a function may raise: also ``sys.exit()``, which would end the run with exit code 0 and without a model."""


class RewardError(Refusal, RuntimeError):
    """Says that a reward function failed on a sample."""


def guarded(reward: Reward) -> Reward:
    """Wrap a reward function, plain or async, so that its failures become `RewardError`s that say where.

    After a failure the rows are tried one by one to find the culprit, but for a judge's, which names its sample and
    would be slow to repeat; otherwise only the results are checked.
    """
    from triptych_trainer.rewards.random_states import kept_random_numbers  # brings numpy, which a help does without

    name = getattr(reward, "__name__", type(reward).__name__)

    if inspect.iscoroutinefunction(reward) or inspect.iscoroutinefunction(getattr(reward, "__call__", None)):  # noqa: B004

        @functools.wraps(reward)
        async def call_async(*, completions: Sequence[Completion], **arguments: Any) -> list[float | None]:
            before = process_settings()
            try:
                with kept_random_numbers(f"reward {name!r}"):
                    scores = await reward(**_own_lists(completions, arguments))
            except JudgeError as error:
                raise RewardError(f"reward {name!r}: {error}") from error
            except FAILURES as error:
                for k in range(len(completions)):
                    try:
                        await reward(**_one_row(k, completions, arguments))
                    except FAILURES as row_error:
                        raise _failure(name, row_error, k, completions, arguments) from error
                raise _batch_failure(name, error, completions) from error
            _check_settings(name, before, of_thread=False)
            return _checked(scores, name=name, completions=completions, arguments=arguments)

        call_async.__name__ = name  # TRL names the metric after it
        return call_async

    @functools.wraps(reward)
    def call(*, completions: Sequence[Completion], **arguments: Any) -> list[float | None]:
        before = process_settings()
        try:
            with kept_random_numbers(f"reward {name!r}"):
                scores = reward(**_own_lists(completions, arguments))
        except JudgeError as error:
            raise RewardError(f"reward {name!r}: {error}") from error
        except FAILURES as error:
            for k in range(len(completions)):
                try:
                    reward(**_one_row(k, completions, arguments))
                except FAILURES as row_error:
                    raise _failure(name, row_error, k, completions, arguments) from error
            raise _batch_failure(name, error, completions) from error
        _check_settings(name, before)
        return _checked(scores, name=name, completions=completions, arguments=arguments)

    call.__name__ = name
    return call


def _check_settings(name: str, before: Mapping[str, str], *, of_thread: bool = True) -> None:
    changed = changed_setting(before, of_thread=of_thread)
    if changed is not None:
        raise RewardError(f"reward {name!r} {changed}")


def _own_lists(completions: Sequence[Completion], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of one function in lists of its own: what it changes in them, the next function still gets."""
    return {"completions": _own(list(completions)), **{name: _own(value) for name, value in arguments.items()}}


def _own(value: Any) -> Any:
    """A copy of lists and mappings, however deep; pictures, numbers and other objects are shared."""
    if type(value) is list:
        return [_own(item) if type(item) in (list, dict) else item for item in value]
    return {key: _own(item) for key, item in value.items()} if type(value) is dict else value


def _one_row(k: int, completions: Sequence[Completion], arguments: Mapping[str, Any]) -> dict[str, Any]:
    arguments = {name: _own(value) for name, value in arguments.items()}
    one = {name: [value[k]] if is_column(value, len(completions)) else value for name, value in arguments.items()}
    return {"completions": [completions[k]], **one}


def _checked(
    scores: Any, *, name: str, completions: Sequence[Completion], arguments: Mapping[str, Any]
) -> list[float | None]:
    """Return the scores as floats; one finite number or None per completion."""
    scores = scores.tolist() if hasattr(scores, "tolist") else scores
    if not isinstance(scores, Sequence) or isinstance(scores, str | bytes) or len(scores) != len(completions):
        is_list = isinstance(scores, Sequence) and not isinstance(scores, str | bytes)
        got = f"{len(scores)} values" if is_list else type(scores).__name__
        raise RewardError(
            f"reward {name!r} returned {got}; expected a list of {len(completions)}, one number or None per completion"
        )
    return [_number(score, k, name, completions, arguments) for k, score in enumerate(scores)]


def _number(
    score: Any, k: int, name: str, completions: Sequence[Completion], arguments: Mapping[str, Any]
) -> float | None:
    """A score as a finite float, or None."""
    if score is None:
        return None
    plain = score.item() if getattr(score, "ndim", None) == 0 and hasattr(score, "item") else score
    try:
        number = float(plain) if isinstance(plain, numbers.Real) else math.nan
    except OverflowError:  # an integer or a fraction beyond 1.8e308
        number = math.inf
    if not abs(number) <= LARGEST:
        limit = f" of at most {LARGEST:g}" if math.isfinite(number) else ""
        raise RewardError(
            f"reward {name!r} returned {_shown(score)} on {_where(k, completions, arguments)}; "
            f"expected a finite number{limit}, or None for 'not scored': correct the function"
        )
    return number


def _shown(value: Any) -> str:
    """A value in a message: shortened, and by its size where Python writes no integer that long."""
    try:
        text = repr(value)
    except ValueError:
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


def _failure(
    name: str, error: BaseException, k: int, completions: Sequence[Completion], arguments: Mapping[str, Any]
) -> RewardError:
    if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
        return RewardError(
            f"reward {name!r} raised TypeError: {error}; a reward gets every column of its rows by name: let it take "
            "**kwargs"
        )
    missing = _MISSING.match(str(error)) if isinstance(error, TypeError) else None
    if missing is not None:
        columns = ", ".join(sorted(key for key, value in arguments.items() if is_column(value, len(completions))))
        return RewardError(
            f"reward {name!r} expects a column for each of its parameters, got none for {missing[2]} on "
            f"{_where(k, completions, arguments)} (columns: {columns}); add it to the data, correct the name, or give "
            "the parameter a default"
        )
    return RewardError(
        f"reward {name!r} raised {type(error).__name__}: {error} on {_where(k, completions, arguments)}; "
        "a reward must return a number for any completion: handle this one in the function"
    )


def _batch_failure(name: str, error: BaseException, completions: Sequence[Completion]) -> RewardError:
    return RewardError(
        f"reward {name!r} raised {type(error).__name__}: {error} on a batch of {len(completions)} completions, "
        "on none of them alone: look for what it shares between rows"
    )


def _where(k: int, completions: Sequence[Completion], arguments: Mapping[str, Any]) -> str:
    def value(name: str) -> Any:
        column: Any = arguments.get(name)
        return column[k] if is_column(column, len(completions)) else None

    sample, source = value("example_id"), value("source")
    text = completion_text(completions[k])
    shown = text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + f"... ({len(text)} characters)"
    origin = f" ({source})" if source else ""
    return f"sample {'?' if sample is None else sample}{origin}, completion {k} of {len(completions)}: {shown!r}"
