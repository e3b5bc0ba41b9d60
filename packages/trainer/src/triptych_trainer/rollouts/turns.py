"""The turns of a rollout with tools, as records: the messages, the calls, their results, and how the rollout ended."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from PIL import Image

from triptych_trainer.prompts.prepare import PreparedPrompt
from triptych_trainer.rewards import completion_text
from triptych_trainer.rollouts.image_record import IMAGE, ImageRecord, image_from_row, image_to_row
from triptych_trainer.rollouts.rollout import BoxFrame, Rollout, ToolCall

__all__ = [
    "TRAJECTORY",
    "CallRecord",
    "Shown",
    "Trajectory",
    "TurnRecord",
    "records_of",
    "shown_images",
    "trajectory_from_row",
    "trajectory_of",
    "trajectory_to_row",
]

Piece = str | int
TRAJECTORY = pa.struct(
    [
        ("finish", pa.string()),
        ("num_tokens", pa.int32()),
        ("images", pa.list_(IMAGE)),
        (
            "turns",
            pa.list_(
                pa.struct(
                    [
                        ("said", pa.string()),
                        ("num_tokens", pa.int32()),
                        ("reward", pa.float64()),
                        ("unread", pa.string()),
                        (
                            "calls",
                            pa.list_(
                                pa.struct(
                                    [
                                        ("tool", pa.string()),
                                        ("arguments", pa.string()),
                                        ("was_done", pa.bool_()),
                                        ("failed", pa.bool_()),
                                        ("image", pa.int32()),
                                        ("box", pa.list_(pa.float64())),
                                        ("returned", pa.string()),
                                    ]
                                )
                            ),
                        ),
                    ]
                )
            ),
        ),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """Describes one call of a tool; images count from 0, those of the prompt first and then those that arrived."""

    tool: str
    """Empty for a call that could not be read."""
    arguments: str
    """As JSON."""
    was_done: bool = True
    failed: bool = False
    image: int | None = None
    """The image that the call is about, if its arguments name one."""
    box: Sequence[float] | None = None
    """Left, top, right and bottom in pixels of that image as the model saw it; a point has no size."""
    returned: Sequence[Piece] = ()
    """Texts and the numbers of images; empty where nothing was returned, or it was left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """Contains one message of the model, and its calls."""

    said: str
    num_tokens: int
    reward: float | None = None
    unread: str | None = None
    """Why a call that the message begins was not read; None if there is no such call."""
    calls: Sequence[CallRecord] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Contains a rollout turn by turn."""

    finish: str
    num_tokens: int
    """The number of all tokens after the prompt: sampled tokens, and those of results and images."""
    turns: Sequence[TurnRecord]
    images: Sequence[ImageRecord] = ()
    """The images that tools and environments returned, in the order in which they came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Contains an image that a tool or an environment returned."""

    picture: Image.Image
    owner: str
    model_size: tuple[int, int] | None
    """(height, width) in pixels as the model saw it; None for one that it did not see."""


def shown_images(rollout: Rollout) -> list[Shown]:
    """Return the images in a rollout's messages, in order; those after the last that the model saw came as it ended."""
    sizes = iter([image.model_size for image in rollout.images])
    return [
        Shown(picture=part["image"], owner=str(message.get("name")), model_size=next(sizes, None))
        for message in rollout.messages
        if message.get("role") == "tool" and not isinstance(message["content"], str)
        for part in message["content"]
        if part["type"] == "image"
    ]


def records_of(rollout: Rollout, *, copy: Callable[[Image.Image], str] | None = None) -> list[ImageRecord]:
    """Return the records of the images that arrived; ``copy`` keeps a small picture of one and returns its path."""
    return [
        ImageRecord(
            ref=f"image of {shown.owner}",
            thumbnail=None if copy is None else copy(shown.picture),
            width=shown.picture.width if shown.model_size is None else shown.model_size[1],
            height=shown.picture.height if shown.model_size is None else shown.model_size[0],
            source_width=shown.picture.width,
            source_height=shown.picture.height,
        )
        for shown in shown_images(rollout)
    ]


def trajectory_of(rollout: Rollout, prompt: PreparedPrompt, *, images: Sequence[ImageRecord]) -> Trajectory:
    """Return the turns of a rollout; ``images`` are the records of `shown_images`."""
    names: list[str | None] = [source.name for source in prompt.example.images]
    names += [None] * len(images)
    sizes = [*prompt.model_sizes, *((image.height, image.width) for image in images)]
    lengths = [stop - start for start, stop in rollout.sampled_runs]
    turns: list[TurnRecord] = []
    known = len(prompt.example.images)
    for number, (said, results) in enumerate(_by_turn(rollout.messages)):
        seen = known
        returned = []
        for message in results:
            pieces, known = _pieces(message["content"], known)
            returned.append(pieces)
        asked = [call for call in rollout.calls or () if call.turn == number]
        turns.append(
            TurnRecord(
                said=completion_text([said]),
                num_tokens=lengths[number] if number < len(lengths) else 0,
                reward=None if rollout.turn_rewards is None else rollout.turn_rewards[number],
                unread=rollout.unread.get(number),
                calls=[
                    _call(call, returned[k] if k < len(returned) else (), names=names[:seen], sizes=sizes[:seen])
                    for k, call in enumerate(asked)
                ],
            )
        )
    return Trajectory(finish=rollout.finish, num_tokens=len(rollout.ids), turns=turns, images=tuple(images))


def trajectory_to_row(trajectory: Trajectory) -> dict[str, Any]:
    """Return the trajectory as a value of `TRAJECTORY`."""
    return {
        "finish": trajectory.finish,
        "num_tokens": trajectory.num_tokens,
        "images": [image_to_row(image) for image in trajectory.images],
        "turns": [
            {
                "said": turn.said,
                "num_tokens": turn.num_tokens,
                "reward": turn.reward,
                "unread": turn.unread,
                "calls": [
                    {
                        **{name: getattr(call, name) for name in CallRecord.__slots__ if name != "returned"},
                        "returned": json.dumps(list(call.returned), ensure_ascii=False),
                    }
                    for call in turn.calls
                ],
            }
            for turn in trajectory.turns
        ],
    }


def trajectory_from_row(row: Mapping[str, Any]) -> Trajectory:
    """Return the trajectory that `trajectory_to_row` wrote."""
    return Trajectory(
        finish=row["finish"],
        num_tokens=row["num_tokens"],
        images=tuple(image_from_row(image) for image in row["images"]),
        turns=[
            TurnRecord(
                **{
                    **turn,
                    "calls": [
                        CallRecord(**{**call, "returned": json.loads(call["returned"])}) for call in turn["calls"]
                    ],
                }
            )
            for turn in row["turns"]
        ],
    )


def _by_turn(messages: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Each message of the model with the results that follow it."""
    found: list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]] = []
    for message in messages:
        if message.get("role") == "assistant":
            found.append((message, []))
        elif found:
            found[-1][1].append(message)
    return found


def _pieces(content: Any, known: int) -> tuple[list[Piece], int]:
    """The pieces as texts and numbers of images, and the number of images after them."""
    if isinstance(content, str):
        return [content], known
    pieces: list[Piece] = []
    for part in content:
        pieces.append(known if part["type"] == "image" else part["text"])
        known += part["type"] == "image"
    return pieces, known


def _call(
    call: ToolCall, returned: Sequence[Piece], *, names: Sequence[str | None], sizes: Sequence[tuple[int, int]]
) -> CallRecord:
    arguments = call.arguments if isinstance(call.arguments, Mapping) else {}
    image = _asked_image(arguments.get("image"), names)
    frame = call.box_frame
    if image is None and frame is not None and "image" not in arguments and sizes:
        image = len(sizes) - 1  # a tool without a choice of images acts on what was shown last
    return CallRecord(
        tool=call.name,
        arguments=json.dumps(call.arguments, ensure_ascii=False, default=str),
        was_done=call.was_done,
        failed=call.failed,
        image=image,
        box=None if image is None or frame is None else _box(arguments, sizes[image], frame=frame),
        returned=tuple(returned),
    )


def _asked_image(which: Any, names: Sequence[str | None]) -> int | None:
    """The image that an argument means, as tools read it: by name, or by number from 1."""
    if isinstance(which, str) and which in names:
        return names.index(which)
    number = int(which) if isinstance(which, str) and which.strip().isdecimal() else which
    return number - 1 if isinstance(number, int) and 1 <= number <= len(names) else None


def _box(arguments: Mapping[str, Any], size: tuple[int, int], *, frame: BoxFrame) -> list[float] | None:
    """The box of a call, or its point, in pixels of an image of this (height, width); None where there is neither."""
    box = arguments.get("box")
    corners: list[Any] = list(box) if isinstance(box, (list, tuple)) else [arguments.get("x"), arguments.get("y")] * 2
    if len(corners) != 4 or not all(_is_number(corner) for corner in corners):
        return None
    height, width = size
    x, y = (width / 1000, height / 1000) if frame == "thousandths" else (1.0, 1.0)
    return [corners[0] * x, corners[1] * y, corners[2] * x, corners[3] * y]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
