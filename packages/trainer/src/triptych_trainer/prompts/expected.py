"""Before a run: whether what a row expects can be met at all, as the run's rewards see it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from triptych_data import DataError, Example
from triptych_data.budget import Size
from triptych_data.inspect_row import FurtherLook

from triptych_trainer.errors import UsageError
from triptych_trainer.prompts.environment_column import check_environment
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.rewards import ImageInfo, load_reward
from triptych_trainer.rewards.loading import PREFIX, check_model_spec, of_option
from triptych_trainer.rewards.row import RowCheck, rows

__all__ = ["answer_checks", "check_answer", "look_at_answers"]


def look_at_answers(specs: Sequence[str], *, environments: Sequence[str] = ()) -> FurtherLook:
    """Return what `check` and `preview` ask of each row for the rewards that ``--reward`` names; reward models ask
    nothing.

    With ``environments`` each row has to name one of them.

    Raises:
        UsageError: there is no such reward.
    """
    try:
        for spec in specs:
            if spec.startswith(PREFIX):
                check_model_spec(spec)
        rewards = [load_reward(spec) for spec in specs if not spec.startswith(PREFIX)]
    except ValueError as error:
        raise UsageError(of_option(error)) from error
    return partial(check_answer, checks=answer_checks(rewards), environments=environments)


def answer_checks(rewards: Sequence[Callable[..., Any]]) -> list[RowCheck]:
    """Return the checks that rewards bring along, each in its attribute ``check_answer``."""
    found = [getattr(reward, "check_answer", None) for reward in rewards]
    return [check for check in found if check is not None]


def check_answer(
    example: Example,
    sizes: Sequence[Size],
    model_sizes: Sequence[Size | None],
    *,
    checks: Sequence[RowCheck],
    environments: Sequence[str] = (),
) -> None:
    """Ask every check about a row; ``sizes`` are those of its images as decoded.

    Raises:
        DataError: no completion could be right, or the row chooses none of several environments.
    """
    check_environment(example, environments)
    if not checks:
        return
    columns = {**ExampleTable([example]).columns(0), "image_infos": _infos(example, sizes, model_sizes)}
    (row,) = rows([""], columns={name: [value] for name, value in columns.items()})
    for check in checks:
        try:
            check(row)
        except ValueError as error:
            reason, _, remedy = str(error).removeprefix(f"{row.where}: ").rpartition("; ")
            raise DataError(
                reason or remedy,
                source=example.source,
                id=None if example.id == example.source else example.id,
                remedy=remedy if reason else "correct the row, or drop it (`triptych check --fix`)",
                kind="answer",
            ) from error


def _infos(example: Example, sizes: Sequence[Size], model_sizes: Sequence[Size | None]) -> list[ImageInfo]:
    """The image infos for rewards; a size that only the model knows is 0, and nothing is compared with it."""
    return [
        ImageInfo(
            index=k,
            name=source.name,
            width=0 if seen is None else seen[1],
            height=0 if seen is None else seen[0],
            source_width=decoded[1],
            source_height=decoded[0],
        )
        for k, (source, decoded, seen) in enumerate(zip(example.images, sizes, model_sizes, strict=True))
    ]
