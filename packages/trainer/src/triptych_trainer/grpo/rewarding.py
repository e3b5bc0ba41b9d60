"""The arguments of reward functions: every rollout and the columns of its row, in TRL's convention."""

import asyncio
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from triptych_trainer.grpo.batch import Rewards
from triptych_trainer.grpo.keywords import taking
from triptych_trainer.prompts.dataset_table import open_bytes
from triptych_trainer.prompts.example_table import ScriptColumns, Table
from triptych_trainer.prompts.image_info import image_infos
from triptych_trainer.prompts.own_values import own_values
from triptych_trainer.prompts.run_tables import RunTables
from triptych_trainer.rollouts.rollout import RolloutGroup

__all__ = [
    "call_rewards",
    "completions_for_rewards",
    "completions_of",
    "lacking_of",
    "own_arguments",
    "prompt_as_read",
    "prompt_with_images",
    "reward_columns",
    "rewards_by_functions",
    "texts_of",
]

TAKEN = (
    *("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"),
    *("image_infos", "prompt_end"),
)
"""Names under which reward functions get something that is no column of the data."""


def reward_columns(
    rows: Sequence[dict[str, Any]], groups: Sequence[RolloutGroup], *, only_images: bool = False
) -> list[dict[str, Any]]:
    """Return what rewards get of each group's row: its columns, None for those that only other rows have, and its
    images.

    ``image_infos`` says of each image what the model saw; ``images`` is the row's own column, or the same infos where
    the row has none. ``prompt_end`` is how the prompt ends, with what its chat template began of the completion. A
    column whose name is taken is left out with a warning.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    if hidden := [name for name in names if name in TAKEN]:
        warnings.warn(
            f"rewards do not get the data's columns {', '.join(hidden)}: under these names they get what the trainer "
            "itself passes; rename the columns to use them",
            stacklevel=2,
        )
    shown = [name for name in names if name not in TAKEN and (name in ("image", "images") or not only_images)]
    found = []
    for row, group in zip(rows, groups, strict=True):
        infos = image_infos(group.prompt)
        found.append(
            {
                "images": infos,
                **{name: row.get(name) for name in shown},
                "image_infos": infos,
                "prompt_end": group.prompt.ending,
            }
        )
    return found


def lacking_of(rows: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return which of the names that rewards get no row of a script's dataset has; none for rows of data files."""
    lacking = [row.lacking if isinstance(row, ScriptColumns) else frozenset[str]() for row in rows]
    return frozenset.intersection(*lacking) if lacking else frozenset()


def completions_of(group: RolloutGroup) -> list[Any]:
    """Return the completions as logs get them: texts after a plain prompt, lists of messages after others."""
    if group.prompt.text is None:
        return [[dict(message) for message in rollout.messages] for rollout in group.rollouts]
    return ["".join(message["content"] for message in rollout.messages) for rollout in group.rollouts]


def completions_for_rewards(group: RolloutGroup) -> list[Any]:
    """Return the completions as rewards get them: in the form that a rollout brings with it, or as logs get them."""
    brought = [rollout.for_rewards.completion for rollout in group.rollouts]
    said = own_values(completions_of(group), images=False)
    return [own if own is not None else one for own, one in zip(brought, said, strict=True)]


def prompt_as_read(tables: Table, group: RolloutGroup) -> str | list[dict[str, Any]]:
    """Return the prompt of a group as logs get it: the row's own, or with what its environment showed
    first.
    """
    own = tables.prompt(group.key, group.prompt.example)
    if not group.observation or isinstance(own, str):
        return own
    at = max(k for k, message in enumerate(own) if message["role"] == "user")
    content, seen = own[at].get("content") or "", group.observation
    if content == [{"type": "text", "text": ""}]:  # of a row without a prompt
        content = ""
    if isinstance(content, str) and all(isinstance(piece, str) for piece in seen):
        told: Any = content + "".join(map(str, seen))  # as TRL: a text stays a text
    else:
        parts = [{"type": "text", "text": content}] if isinstance(content, str) and content else list(content)
        told = parts + [{"type": "text", "text": one} if isinstance(one, str) else {"type": "image"} for one in seen]
    return [*own[:at], {**own[at], "content": told}, *own[at + 1 :]]


def prompt_with_images(tables: Table, group: RolloutGroup) -> str | list[dict[str, Any]]:
    """Return the prompt as rewards get it, where TRL puts PIL images into the messages: those that the row contains, or
    that its environment showed. An image that a row names by its path is a part without pixels; in a script's
    dataset it has the path, as in TRL.
    """
    with_paths = isinstance(tables, RunTables) and tables.is_script(group.key)
    prompt, example = prompt_as_read(tables, group), group.prompt.example
    if isinstance(prompt, str) or not example.images:
        return prompt
    shown = (example.images[number].ref for number in example.prompt.image_order)
    return [
        {**message, "content": [_filled(part, shown, with_paths=with_paths) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in prompt
    ]


def own_arguments(
    tables: Table, groups: Sequence[RolloutGroup], *, columns: Sequence[Mapping[str, Any]]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return for each rollout its prompt and its columns as rewards get them: values that no other rollout shares."""
    prompts, rows = [], []
    for group, row in zip(groups, columns, strict=True):
        prompt = prompt_with_images(tables, group)
        for _ in group.rollouts:
            copies: dict[int, Image.Image] = {}
            prompts.append(own_values(prompt, copies=copies))
            rows.append(own_values(dict(row), copies=copies))
    return prompts, rows


def _filled(part: dict[str, Any], shown: Iterator[Any], *, with_paths: bool) -> dict[str, Any]:
    if part.get("type") != "image":
        return part
    ref = next(shown)
    picture = open_bytes(ref) if isinstance(ref, bytes) else ref
    is_given = isinstance(picture, Image.Image) or (with_paths and isinstance(picture, str))
    return {**part, "image": picture} if is_given else part


def texts_of(completion: Any) -> Any:
    """Return a completion whose images of tools are replaced by parts without pixels."""
    if isinstance(completion, str):
        return completion
    return [
        {
            **message,
            "content": [{"type": "image"} if part["type"] == "image" else part for part in message["content"]],
        }
        if isinstance(message.get("content"), list)
        else message
        for message in completion
    ]


def rewards_by_functions(
    rewards: Sequence[Callable[..., Any]],
    groups: Sequence[RolloutGroup],
    *,
    table: Table,
) -> Rewards:
    """Score rollouts with reward functions alone, without a trainer; the groups' keys are rows of ``table``."""
    columns = reward_columns([table.columns(group.key, group.prompt.example) for group in groups], groups)
    prompts, own = own_arguments(table, groups, columns=columns)
    repeated = {name: [row[name] for row in own] for name in columns[0]}
    environments = [rollout.for_rewards.environment for group in groups for rollout in group.rollouts]
    if any(one is not None for one in environments):
        repeated["environments"] = environments
    scores = call_rewards(
        rewards,
        prompts=prompts,
        completions=[completion for group in groups for completion in completions_for_rewards(group)],
        completion_ids=[list(rollout.ids) for group in groups for rollout in group.rollouts],
        columns=repeated,
    )
    return Rewards(
        names=tuple(reward.__name__ for reward in rewards),
        scores_BF=torch.tensor(scores, dtype=torch.float64).T,
        keys_B=torch.tensor([group.key for group in groups for _ in group.rollouts]),
    )


def call_rewards(
    rewards: Sequence[Callable[..., Any]],
    *,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int] | None],
    columns: Mapping[str, Sequence[Any]],
) -> list[list[float]]:
    """Call reward functions without a trainer, one entry of each list for each completion; NaN where not scored."""
    scores = []
    for reward in rewards:
        found = taking(reward)(
            prompts=list(prompts),
            completions=list(completions),
            completion_ids=list(completion_ids),
            **{name: list(values) for name, values in columns.items()},
        )
        values = asyncio.run(found) if inspect.iscoroutine(found) else found
        scores.append([torch.nan if value is None else float(value) for value in values])
    return scores
