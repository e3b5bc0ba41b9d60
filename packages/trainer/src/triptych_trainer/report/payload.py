"""The groups of a run as the page's script wants them: plain JSON, with boxes and citations already read."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych_trainer.report.reading import Visit
from triptych_trainer.report.rollout import RolloutGroup
from triptych_trainer.report.summary import History
from triptych_trainer.report.thumbnails import Thumbnails
from triptych_trainer.rewards import Box, ImageInfo, extract_answer, read_boxes
from triptych_trainer.rewards.boxes import Frame, to_seen
from triptych_trainer.rewards.citation import cited_images
from triptych_trainer.rewards.completion import ANSWER_CLOSE, ANSWER_OPEN, THINK_CLOSE, THINK_OPEN

MOST_BOXES = 40
LONGEST_TEXT = 20_000
_IMAGE_WORD = re.compile(r"<image:|\b(?:images?|pictures?|photos?|figures?|screenshots?|pages?)\b", re.IGNORECASE)


def group_json(
    group: RolloutGroup,
    visit: Visit,
    *,
    history: History | None,
    thumbnails: Thumbnails,
    run_dir: Path,
    answer_frame: Frame = "seen",
    completion_frame: Frame = "seen",
) -> dict[str, Any]:
    """Return one group as JSON values; coordinates of boxes are pixels of the image as the model saw it."""
    infos = image_infos(group)
    expected = extract_answer(group.answer or "") or ""
    return {
        "step": group.step,
        "mode": group.mode,
        "id": group.sample_id,
        "source": group.source,
        "answer": group.answer,
        "answerCites": cites(expected, infos),
        "answerBoxes": boxes_json(expected, infos, frame=answer_frame),
        "prompt": [[role, list(pieces)] for role, pieces in group.prompt],
        "images": [
            {
                "name": image.name,
                "note": image.annotation,
                "file": Path(image.ref).name if image.thumbnail is None else image.ref,
                "size": [image.width, image.height],
                "source": [image.source_width, image.source_height],
                "thumb": thumbnails.add(image, run_dir=run_dir),
            }
            for image in group.images
        ],
        "completions": [
            completion_json(group, k, infos=infos, frame=completion_frame) for k in range(len(group.completions))
        ],
        "mean": visit.mean,
        "spread": visit.spread,
        "flat": visit.is_flat,
        "change": history.change if history is not None else None,
        "history": [list(pair) for pair in zip(history.steps, history.means, strict=True)] if history else [],
    }


def completion_json(
    group: RolloutGroup, k: int, *, infos: Sequence[ImageInfo], frame: Frame = "seen"
) -> dict[str, Any]:
    """Return one completion: its text in parts, scores, boxes and the images that its answer cites."""
    text = group.completions[k]
    answer = extract_answer(text) or ""
    totals = group.totals or [None] * len(group.completions)
    return {
        "parts": parts(text),
        "tokens": group.num_tokens[k],
        "rewards": {name: scores[k] for name, scores in group.rewards.items()},
        "total": totals[k],
        "advantage": group.advantages[k],
        "boxes": boxes_json(answer, infos, frame=frame),
        "cites": cites(answer, infos),
    }


def parts(text: str) -> list[list[str]]:
    """Split a completion into [kind, text] with kinds `thought`, `answer`, `tag` and `text`; joined, they are the text.

    Text beyond `LONGEST_TEXT` characters becomes one part `cut` that says how much is missing.
    """
    kinds = {THINK_OPEN: "thought", THINK_CLOSE: "text", ANSWER_OPEN: "answer", ANSWER_CLOSE: "text"}
    found: list[list[str]] = []
    shown, kind, start = text[:LONGEST_TEXT], "text", 0
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


def boxes_json(text: str, images: Sequence[ImageInfo], *, frame: Frame) -> list[dict[str, Any]]:
    """Return the boxes of a text; `image` is null when it is not said, -1 when there is no such image."""
    return [_box_json(box, images, frame) for box in read_boxes(text, images=images).boxes[:MOST_BOXES]]


def cites(answer: str, images: Sequence[ImageInfo]) -> list[int]:
    """Return the images that an answer cites, -1 for one that is not there; a bare number is no citation."""
    if not images or (any(char.isdigit() for char in answer) and not _IMAGE_WORD.search(answer)):
        return []
    return sorted(cited_images(answer, images))


def image_infos(group: RolloutGroup) -> list[ImageInfo]:
    """Return the group's images as rewards see them."""
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
        for k, image in enumerate(group.images)
    ]


def other_json(group: RolloutGroup, visit: Visit, *, completion_frame: Frame = "seen") -> Mapping[str, Any]:
    """Return what the compared run said to the same sample: scores and completions, not the prompt again."""
    infos = image_infos(group)
    return {
        "step": group.step,
        "mean": visit.mean,
        "completions": [
            completion_json(group, k, infos=infos, frame=completion_frame) for k in range(len(group.completions))
        ],
    }


def _box_json(box: Box, images: Sequence[ImageInfo], frame: Frame) -> dict[str, Any]:
    index = box.image if box.image is not None else 0 if len(images) == 1 else None
    known = images[index] if index is not None and 0 <= index < len(images) else None
    placed = to_seen(box, known, frame=frame) if known is not None and _can_place(known, frame) else box
    corners = [round(value, 2) for value in (placed.x1, placed.y1, placed.x2, placed.y2)]
    return {"image": index, "corners": corners, "label": box.label}


def _can_place(image: ImageInfo, frame: Frame) -> bool:
    return frame != "source" or bool(image.source_width and image.source_height)
