"""Images next to completions in trackio, Weights & Biases and TensorBoard: what TRL's ``log_completions`` leaves out.

trackio's table takes several images in a cell, so it gets them through TRL. A cell of a Weights & Biases table shows
one image, and TRL's lists as the word "Image": a table of ours has a column for each. TensorBoard gets no completions
from TRL at all.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback
from trl import GRPOConfig

from triptych_trainer.monitor.tracker_images import RowImages

__all__ = ["ImageLog", "number_images", "wants_images"]

TRACKERS = ("wandb", "trackio", "tensorboard")
MOST_PROMPTS = 8
"""The number of prompts of a generation that TensorBoard gets; the tables of the others contain all prompts."""
SIDE_PIXELS = 512
"""Longest side of the images in TensorBoard's event files."""


def wants_images(args: GRPOConfig) -> bool:
    """Say whether completions are logged to a tracker that can show images."""
    return args.log_completions and args.log_multimodal and any(name in args.report_to for name in TRACKERS)


def number_images(logs: Mapping[str, Any], *, num_rows: int) -> None:
    """Number the images in the prompts of the last rows that TRL has logged.

    Images of tools go on with the numbers of their prompt. Contents become texts: Weights & Biases refuses a table
    whose cells contain parts of different kinds.
    """
    prompts, completions = logs["prompt"], logs["completion"]
    for row in range(-min(num_rows, len(prompts)), 0):
        completions[row] = numbered(completions[row], after=num_images(prompts[row]))
        prompts[row] = numbered(prompts[row])


def num_images(messages: Any) -> int:
    """Return the number of images in a conversation."""
    contents = [] if isinstance(messages, str) else [message.get("content") or () for message in messages]
    return sum(part["type"] == "image" for content in contents if not isinstance(content, str) for part in content)


def numbered(messages: Any, *, after: int = 0) -> Any:
    """Return a conversation whose contents are texts, with ``[image k]`` at the place of the k-th image.

    ``after`` is how many images come before.
    """
    if isinstance(messages, str):
        return messages
    texts, number = [], after
    for message in messages:
        content = message.get("content") or ""
        pieces = []
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            number += part["type"] == "image"
            pieces.append(f"[image {number}]" if part["type"] == "image" else str(part.get("text", "")))
        pieces += [f"\n[call of {_call(call)}]" for call in message.get("tool_calls") or ()]
        texts.append({"role": message["role"], "content": "".join(pieces)})
    return texts


def _call(call: Mapping[str, Any]) -> str:
    function = call.get("function", call)
    return f"{function['name']}: {json.dumps(function.get('arguments'), ensure_ascii=False, default=str)}"


class ImageLog(TrainerCallback):
    """Writes TRL's last prompts with images, whenever TRL logs, to the trackers that TRL does not give them to."""

    def __init__(
        self, logs: Mapping[str, Any], images: deque[RowImages], *, callbacks: Sequence[TrainerCallback]
    ) -> None:
        """Read TRL's buffers ``logs`` and next to them ``images``, the files of each row.

        ``callbacks`` are those of the trainer: among them is the one with TensorBoard's open event file.
        """
        self.logs = logs
        self.images = images
        self.callbacks = callbacks
        self._written: list[Any] = []

    def on_log(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        """Write the rows that are new."""
        completions = list(self.logs["completion"])
        if not state.is_world_process_zero or completions == self._written:
            return
        self._written = completions  # the end of a training logs once more, with nothing new
        for callback in self.callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                self._to_tensorboard(callback.tb_writer, step=state.global_step)
        if "wandb" in args.report_to:
            self._to_wandb(step=state.global_step)

    def _to_tensorboard(self, writer: Any, *, step: int) -> None:
        for number, rows in zip(range(1, MOST_PROMPTS + 1), self._groups(), strict=False):
            for name, path in self._named(number, rows):
                with Image.open(path) as picture:
                    picture.thumbnail((SIDE_PIXELS, SIDE_PIXELS))
                    pixels_HWC = np.asarray(picture)
                writer.add_image(name, pixels_HWC, step, dataformats="HWC")
            writer.add_text(f"prompt {number}/completions", self._markdown(rows), step)
        writer.flush()

    def _to_wandb(self, *, step: int) -> None:
        import wandb

        if wandb.run is None:
            return
        content: dict[str, Any] = {"prompts with images": self._table(wandb, step=step), "train/global_step": step}
        if wandb.run.offline:  # which keeps no images of tables
            for number, rows in zip(range(1, MOST_PROMPTS + 1), self._groups(), strict=False):
                for name, path in self._named(number, rows):
                    content[name] = wandb.Image(path)
        wandb.log(content)

    def _table(self, wandb: Any, *, step: int) -> Any:
        """A row for each completion, with a column for each of its images."""
        logs, files = self.logs, [row.paths for row in self.images]
        most = max(map(len, files), default=0)
        pictures = {path: wandb.Image(path) for path in dict.fromkeys(path for row in files for path in row)}
        numbers = [f"image {k}" for k in range(1, most + 1)]
        data = []
        for row, paths in enumerate(files):
            cells = [*(pictures[path] for path in paths), *[None] * (most - len(paths))]
            scores = [values[row] for values in logs["rewards"].values()]
            texts = [_plain(logs[name][row]) for name in ("prompt", "completion")]
            data.append([step, texts[0], *cells, texts[1], *scores, logs["advantages"][row]])
        columns = ["step", "prompt", *numbers, "completion", *logs["rewards"], "advantage"]
        return wandb.Table(columns=columns, data=data)

    def _named(self, number: int, rows: Sequence[int]) -> Iterator[tuple[str, str]]:
        """The images of a prompt, and those that arrived in its rollouts, each with a name."""
        own = self.images[rows[0]].prompt
        for k, path in enumerate(own, start=1):
            yield f"prompt {number}/image {k}", path
        for rollout, row in enumerate(rows, start=1):
            for k, path in enumerate(self.images[row].turns, start=len(own) + 1):
                yield f"prompt {number}/rollout {rollout}/image {k}", path

    def _groups(self) -> Iterator[list[int]]:
        """Neighbouring rows with the same prompt and images: the completions of one prompt."""
        rows: list[int] = []
        shown = [row.prompt for row in self.images]
        for row, key in enumerate(zip(self.logs["prompt"], shown, strict=True)):
            if rows and key != (self.logs["prompt"][rows[0]], shown[rows[0]]):
                yield rows
                rows = []
            rows.append(row)
        if rows:
            yield rows

    def _markdown(self, rows: Sequence[int]) -> str:
        """The prompt with its image numbers in place, then each completion with its scores; texts as code blocks."""
        lines = [_code(_plain(self.logs["prompt"][rows[0]]))]
        for k, row in enumerate(rows, start=1):
            scores = [f"{name} {values[row]:.2f}" for name, values in self.logs["rewards"].items()]
            lines.append(f"**{k}**: {', '.join(scores)}, advantage {self.logs['advantages'][row]:+.2f}")
            lines.append(_code(_plain(self.logs["completion"][row])))
        return "\n\n".join(lines)


def _plain(messages: Any) -> str:
    """A conversation as one text; if it has several turns, each begins with the name of its speaker."""
    turns = numbered(messages)
    if isinstance(turns, str):
        return turns
    return "\n".join(turn["content"] if len(turns) == 1 else f"{turn['role']}: {turn['content']}" for turn in turns)


def _code(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines() or [""])
