"""The groups of a run as the page's script wants them: plain JSON, with boxes and citations already read."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych_trainer.report.claims import claims
from triptych_trainer.report.mentions import Labels, bare_reference, image_labels, mentions
from triptych_trainer.report.summary import SampleHistory
from triptych_trainer.report.thumbnails import Thumbnails
from triptych_trainer.rewards import Box, ImageInfo, extract_answer, read_boxes
from triptych_trainer.rewards.boxes import to_seen
from triptych_trainer.rewards.citation import cited_images, image_index
from triptych_trainer.rewards.completion import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN
from triptych_trainer.rewards.frames import Frame
from triptych_trainer.rollouts.image_record import ImageRecord
from triptych_trainer.rollouts.read import Visit
from triptych_trainer.rollouts.record import GroupRecord
from triptych_trainer.rollouts.turns import CallRecord, Trajectory, TurnRecord

MOST_BOXES = 40
LONGEST_TEXT = 20_000
_IMAGE_WORD = re.compile(r"<image:|\b(?:images?|pictures?|photos?|figures?|screenshots?|pages?)\b", re.IGNORECASE)


def group_json(
    group: GroupRecord,
    visit: Visit,
    *,
    history: SampleHistory | None,
    thumbnails: Thumbnails,
    run_dir: Path,
    answer_frame: Frame = "seen",
    completion_frame: Frame = "seen",
) -> dict[str, Any]:
    """Return one group as JSON values; coordinates of boxes are pixels of the image as the model saw it."""
    infos, labels = recorded_infos(group.images), image_labels(group.prompt)
    expected = extract_answer(group.answer or "") or ""
    answer_boxes = boxes_json(expected, infos, frame=answer_frame)
    cited = cites(expected, infos, labels)
    return {
        "step": group.step,
        "mode": group.mode,
        "key": group.key,
        "id": group.sample_id,
        "source": group.source,
        "answer": group.answer,
        "answerCites": cited,
        "answerBoxes": answer_boxes,
        "asked": [] if cited or answer_boxes else asked(group.prompt, infos, labels),
        "prompt": [[role, [_marked(piece, infos, labels) for piece in pieces]] for role, pieces in group.prompt],
        "images": [_image_json(image, thumbnails, run_dir=run_dir) for image in group.images],
        "completions": completions_json(
            group, labels=labels, thumbnails=thumbnails, run_dir=run_dir, frame=completion_frame
        ),
        "weights": dict(group.weights),
        "mean": visit.mean,
        "spread": visit.spread,
        "flat": visit.is_flat,
        "change": history.change if history is not None else None,
        "history": [list(pair) for pair in zip(history.steps, history.means, strict=True)] if history else [],
    }


def completions_json(
    group: GroupRecord, *, labels: Labels, thumbnails: Thumbnails, run_dir: Path, frame: Frame
) -> list[dict[str, Any]]:
    """Return the completions of a group; those of a run with tools with their turns and the images that arrived."""
    found = []
    for k in range(len(group.completions)):
        trajectory = group.trajectories[k] if group.trajectories else None
        later = () if trajectory is None else trajectory.images
        infos = recorded_infos([*group.images, *later])
        one = completion_json(group, k, infos=infos, labels=labels, frame=frame)
        if trajectory is not None:
            images = [_image_json(image, thumbnails, run_dir=run_dir) for image in later]
            one |= {"images": images, **trajectory_json(trajectory, group, infos=infos, labels=labels)}
        found.append(one)
    return found


def trajectory_json(
    trajectory: Trajectory, group: GroupRecord, *, infos: Sequence[ImageInfo], labels: Labels
) -> dict[str, Any]:
    """Return the turns of a completion, and how it ended."""

    def turn_json(turn: TurnRecord, opened: str) -> dict[str, Any]:
        split = completion_parts(turn.said, infos=infos, labels=labels, ordinals=False, opened=opened)
        return {
            "parts": split,
            "tokens": turn.num_tokens,
            "reward": turn.reward,
            "unread": turn.unread,
            "calls": [_call_json(call) for call in turn.calls],
        }

    return {
        "finish": trajectory.finish,
        "allTokens": trajectory.num_tokens,
        "turns": [turn_json(turn, group.opened if k == 0 else "") for k, turn in enumerate(trajectory.turns)],
    }


def _call_json(call: CallRecord) -> dict[str, Any]:
    shortened = [piece if isinstance(piece, int) else piece[:LONGEST_TEXT] for piece in call.returned]
    return {
        "tool": call.tool,
        "arguments": call.arguments[:LONGEST_TEXT],
        "done": call.was_done,
        "failed": call.failed,
        "image": call.image,
        "box": None if call.box is None else [round(corner, 2) for corner in call.box],
        "returned": shortened,
    }


def _image_json(image: ImageRecord, thumbnails: Thumbnails, *, run_dir: Path) -> dict[str, Any]:
    return {
        "name": image.name,
        "note": image.annotation,
        "file": Path(image.ref).name if image.thumbnail is None else image.ref,
        "size": [image.width, image.height],
        "source": [image.source_width, image.source_height],
        "thumb": thumbnails.add(image, run_dir=run_dir),
    }


def completion_json(
    group: GroupRecord, k: int, *, infos: Sequence[ImageInfo], labels: Labels, frame: Frame = "seen"
) -> dict[str, Any]:
    """Return one completion: its text in parts, quotes about each image, scores, boxes, and the images it cites."""
    text = group.completions[k]
    answered = extract_answer(group.opened + text)
    answer = answered or ""
    expected = (extract_answer(group.answer or "") or "").strip()
    ordinals = not expected.isdigit() and image_index(expected, infos) is not None
    totals = group.totals or [None] * len(group.completions)
    split = completion_parts(text, infos=infos, labels=labels, ordinals=ordinals, opened=group.opened)
    return {
        "parts": split,
        "says": claims(split),
        "answered": answered,
        "tokens": group.num_tokens[k],
        "rewards": {name: scores[k] for name, scores in group.rewards.items()},
        "total": totals[k],
        "advantage": group.advantages[k],
        "boxes": boxes_json(answer, infos, frame=frame, num_prompt_images=len(group.images)),
        "cites": cites(answer, infos, labels),
    }


def completion_parts(
    text: str, *, infos: Sequence[ImageInfo], labels: Labels, ordinals: bool, opened: str = ""
) -> list[list[Any]]:
    """Split a completion as `parts` does, and where it speaks of images: [kind, text, images]."""
    return [
        found
        for part in parts(text, opened=opened)
        for found in _split(part, infos=infos, labels=labels, ordinals=ordinals)
    ]


def parts(text: str, *, opened: str = "") -> list[list[str]]:
    """Split a completion into [kind, text] with kinds `thought`, `answer`, `tag` and `text`; joined, they are the text.

    After a prompt that has `opened` the reasoning, the text begins in it. Text beyond `LONGEST_TEXT` characters becomes
    one part `cut` that says how much is missing.
    """
    kinds = {THINK_OPEN: "thought", THINK_CLOSE: "text", ANSWER_OPEN: "answer", ANSWER_CLOSE: "text"}
    found: list[list[str]] = []
    shown, kind, start = text[:LONGEST_TEXT], "thought" if opened.endswith(THINK_OPEN) else "text", 0
    while True:
        tag, place = min(
            ((tag, place) for tag in kinds if (place := shown.find(tag, start)) >= 0),
            key=lambda pair: pair[1],
            default=("", len(shown)),
        )
        if place > start:
            found.append([kind, shown[start:place]])
        if not tag:
            break
        found.append(["tag", tag])
        kind, start = kinds[tag], place + len(tag)
    if len(text) > LONGEST_TEXT:
        found.append(["cut", f"{len(text) - LONGEST_TEXT} more characters"])
    return found


def boxes_json(
    text: str, images: Sequence[ImageInfo], *, frame: Frame, num_prompt_images: int | None = None
) -> list[dict[str, Any]]:
    """Return the boxes of a text; `image` is null when it is not said, -1 when there is no such image.

    A box that names no image is in the only image of the prompt, as for rewards, whatever images arrived later.
    """
    count = len(images) if num_prompt_images is None else num_prompt_images
    found = read_boxes(text, images=images).boxes[:MOST_BOXES]
    return [_box_json(box, images, frame, is_only=count == 1) for box in found]


def cites(answer: str, images: Sequence[ImageInfo], labels: Labels | None = None) -> list[int]:
    """Return the images that an answer cites, -1 for one that is not there; a bare number is no citation.

    An answer that is nothing but a label of the prompt, such as `B` after `Shelf B :`, cites the images under it.
    """
    if labels is not None and (labelled := bare_reference(answer, images, labels)):
        return sorted(labelled)
    if not images or (any(char.isdigit() for char in answer) and not _IMAGE_WORD.search(answer)):
        return []
    return sorted(cited_images(answer, images))


def asked(prompt: Sequence[tuple[str, Sequence[Any]]], images: Sequence[ImageInfo], labels: Labels) -> list[int]:
    """Return the images that the question is about: those that the prompt speaks of after its last image."""
    pieces = [piece for _, turn in prompt for piece in turn]
    last = max((k for k, piece in enumerate(pieces) if isinstance(piece, int)), default=len(pieces))
    question = " ".join(piece for piece in pieces[last + 1 :] if isinstance(piece, str))
    found = {index for mention in mentions(question, images, labels) for index in mention.images}
    return sorted(found - {-1}) if len(found) < len(images) else []


def _marked(piece: Any, images: Sequence[ImageInfo], labels: Labels) -> Any:
    """A stretch of prompt as it is, or as parts where it speaks of images."""
    if not isinstance(piece, str):
        return piece
    split = _split(["text", piece], infos=images, labels=labels, ordinals=False)
    return split if len(split) > 1 or (split and len(split[0]) > 2) else piece


def _split(part: list[str], *, infos: Sequence[ImageInfo], labels: Labels, ordinals: bool) -> list[list[Any]]:
    """A part as [kind, text] where it speaks of no image, and [kind, text, images] where it does."""
    kind, text = part
    if kind in ("tag", "cut") or not infos:
        return [[kind, text]]
    found: list[list[Any]] = []
    done = 0
    for mention in mentions(text, infos, labels, ordinals=ordinals):
        found += [[kind, text[done : mention.start]]] if mention.start > done else []
        found.append([kind, text[mention.start : mention.end], list(mention.images)])
        done = mention.end
    return found + ([[kind, text[done:]]] if done < len(text) else [])


def recorded_infos(images: Sequence[ImageRecord]) -> list[ImageInfo]:
    """Return images as rewards see them."""
    return [
        ImageInfo(
            index=k,
            name=image.name,
            annotation=image.annotation,
            width=image.width,
            height=image.height,
            source_width=image.source_width,
            source_height=image.source_height,
        )
        for k, image in enumerate(images)
    ]


def other_json(
    group: GroupRecord,
    visit: Visit,
    *,
    thumbnails: Thumbnails,
    run_dir: Path,
    completion_frame: Frame = "seen",
) -> Mapping[str, Any]:
    """Return what the compared run said to the same sample: scores and completions, not the prompt again."""
    labels = image_labels(group.prompt)
    return {
        "step": group.step,
        "mean": visit.mean,
        "completions": completions_json(
            group, labels=labels, thumbnails=thumbnails, run_dir=run_dir, frame=completion_frame
        ),
    }


def _box_json(box: Box, images: Sequence[ImageInfo], frame: Frame, *, is_only: bool) -> dict[str, Any]:
    index = box.image if box.image is not None else 0 if is_only else None
    known = images[index] if index is not None and 0 <= index < len(images) else None
    placed = to_seen(box, known, frame=frame) if known is not None and _can_place(known, frame) else box
    corners = [round(value, 2) for value in (placed.x1, placed.y1, placed.x2, placed.y2)]
    return {"image": index, "corners": corners, "label": box.label}


def _can_place(image: ImageInfo, frame: Frame) -> bool:
    return frame != "source" or bool(image.source_width and image.source_height)
