"""Dialogues about boxes as the tensors of a supervised step, with the tokens that a rollout of the trainer has."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from triptych_trainer.demo.batches import NOT_SCORED
from triptych_trainer.demo.look.dialogue import Said
from triptych_trainer.demo.look.pictures import draw_inside, draw_overview
from triptych_trainer.demo.look.task import BoxSample
from triptych_trainer.demo.tokenizer import IMAGE_PAD, TURN_END, TURN_START, VISION_END, VISION_START

__all__ = ["dialogue_ids", "supervised_batch"]


def supervised_batch(
    dialogues: Sequence[tuple[BoxSample, Sequence[Said]]], *, processor: Any, model: Any = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return model inputs padded on the right and labels [B, T] that score what the model says and nothing else.

    With ``model`` no picture is drawn: the place of each image token has the sum of its embeddings of the words for
    what is shown there, as a tower that names everything would give it.
    """
    rows = [dialogue_ids(sample, said, processor=processor) for sample, said in dialogues]
    tokenizer = processor.tokenizer
    batch = tokenizer.pad({"input_ids": [ids for ids, _ in rows]}, padding_side="right", return_tensors="pt")
    labels_BT = torch.full_like(batch["input_ids"], NOT_SCORED)
    for row, (ids, scored) in enumerate(rows):
        kept = [token if counts else NOT_SCORED for token, counts in zip(ids, scored, strict=True)]
        labels_BT[row, : len(ids)] = torch.tensor(kept)
    is_image_BT = batch["input_ids"] == tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    inputs = {**batch, "mm_token_type_ids": is_image_BT.int()}
    if model is None:
        images = [image for sample, said in dialogues for image in _pictures(sample, said)]
        return inputs | dict(processor.image_processor(images, return_tensors="pt")), labels_BT
    words = [word for sample, said in dialogues for word in _words(sample, said)]
    return _with_words(inputs, words, is_image_BT=is_image_BT, model=model, tokenizer=tokenizer), labels_BT


def dialogue_ids(sample: BoxSample, said: Sequence[Said], *, processor: Any) -> tuple[list[int], list[bool]]:
    """Return the tokens of a whole dialogue, and for each whether the model says it."""
    tokenizer = processor.tokenizer
    shown = _vision(len(sample.lids))
    ids = tokenizer(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": f"{shown} {sample.question}"}],
            tools=[{"function": {"name": "look"}}],
            tokenize=False,
            add_generation_prompt=True,
        )
    ).input_ids
    told = tokenizer(f"\n{TURN_START}tool\n{_vision(1)}{TURN_END}\n{TURN_START}assistant\n").input_ids
    scored = [False] * len(ids)
    for message in said:
        own = tokenizer(f"{message.text}{TURN_END}").input_ids
        ids, scored = ids + own, scored + [True] * len(own)
        if message.opens is not None:
            ids, scored = ids + told, scored + [False] * len(told)
    return ids, scored


def _with_words(
    inputs: dict[str, torch.Tensor], words: Sequence[str], *, is_image_BT: torch.Tensor, model: Any, tokenizer: Any
) -> dict[str, torch.Tensor]:
    """The inputs with the words of each image token, one text a token, in its place."""
    embed = model.get_input_embeddings()
    num_tokens = is_image_BT.sum().item()
    assert num_tokens == len(words), (num_tokens, len(words))
    named_ND = torch.stack([embed(tokenizer(text, return_tensors="pt").input_ids[0]).sum(dim=0) for text in words])
    embeds_BTD = embed(inputs["input_ids"]).masked_scatter(is_image_BT[..., None], named_ND)
    grids_I3 = torch.tensor([[1, 2, 2 * length] for length in _run_lengths(is_image_BT)])
    positions_3BT, _ = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=grids_I3,
        attention_mask=inputs["attention_mask"],
    )
    return {"inputs_embeds": embeds_BTD, "position_ids": positions_3BT, "attention_mask": inputs["attention_mask"]}


def _run_lengths(is_image_BT: torch.Tensor) -> list[int]:
    """The number of tokens of each image, row after row."""
    lengths = []
    for row in is_image_BT.tolist():
        lengths += [len(list(run)) for is_image, run in itertools.groupby(row) if is_image]
    return lengths


def _vision(num_tokens: int) -> str:
    return f"{VISION_START}{IMAGE_PAD * num_tokens}{VISION_END}"


def _words(sample: BoxSample, said: Sequence[Said]) -> list[str]:
    """What each image token shows, in words: the number of a box with the colour of its lid, or what is in it."""
    opened = [message.opens for message in said if message.opens is not None]
    lids = [f" {k} {lid}" for k, lid in enumerate(sample.lids, 1)]
    return [*lids, *(f" {sample.inside[box - 1].colour}" for box in opened)]


def _pictures(sample: BoxSample, said: Sequence[Said]) -> list[Image.Image]:
    opened = [message.opens for message in said if message.opens is not None]
    return [draw_overview(sample.lids), *(draw_inside(sample.inside[box - 1]) for box in opened)]
