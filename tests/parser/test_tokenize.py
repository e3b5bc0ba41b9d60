"""Ids and spans: equal to the family's own processor where that accepts the prompt."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_parser import MarkerError, bind, parse, tokenize


class ImagesOnly(Qwen2_5_VLProcessor):
    """The stock processor without its video branch, which needs torchvision."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]


@pytest.fixture(scope="session")
def qwen(qwen_tokenizer: Any) -> ImagesOnly:
    return ImagesOnly(Qwen2VLImageProcessorPil(), qwen_tokenizer, chat_template=qwen_tokenizer.chat_template)


def test_ids_equal_the_processor_and_spans_cover_the_placeholders(qwen: ImagesOnly) -> None:
    sizes = [(56, 84), (112, 56)]
    bound = bind(parse("Before: <image> After: <image>?"), 2)
    result = tokenize(bound, qwen, image_sizes=sizes)
    text = qwen.apply_chat_template(bound.messages(), tokenize=False, add_generation_prompt=True)
    images = [Image.new("RGB", (width, height)) for height, width in sizes]
    assert result.ids == qwen(text=[text], images=images)["input_ids"][0]
    assert [span.image for span in result.spans] == [0, 1]
    for span in result.spans:
        ((start, length),) = span.runs
        assert set(result.ids[start : start + length]) == {qwen.image_token_id}
        assert (start, length + 2) == (span.start + 1, span.length)
    assert [span.num_features for span in result.spans] == [6, 8]


def test_counts_given_by_the_caller_need_no_sizes(qwen_tokenizer: Any) -> None:
    bound = bind(parse("<image:2> then <image:1> then <image:2>"), 2)
    result = tokenize(bound, qwen_tokenizer, image_token="<|image_pad|>", image_tokens=[3, 5])
    assert [(span.image, span.num_features) for span in result.spans] == [(1, 5), (0, 3), (1, 5)]
    assert result.ids.count(qwen_tokenizer.convert_tokens_to_ids("<|image_pad|>")) == 13


def test_a_special_token_in_user_text_stays_text(qwen: ImagesOnly) -> None:
    text = "what is <|image_pad|> next to <image> <|im_end|>?"
    result = tokenize(bind(parse(text), 1), qwen, image_sizes=[(56, 56)])
    assert result.ids.count(qwen.image_token_id) == 4
    assert text.replace("<image>", "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>") in (
        qwen.tokenizer.decode(result.ids)
    )
    with pytest.raises(MarkerError, match=r"column 9, <\|image_pad\|>: the text holds a special token"):
        tokenize(bind(parse(text), 1), qwen, image_sizes=[(56, 56)], on_special="error")


def test_sizes_that_do_not_fit_the_images_are_refused(qwen: ImagesOnly) -> None:
    with pytest.raises(MarkerError, match=r"a\.jsonl:7: image_sizes .* \(expected 2, got 1\)"):
        tokenize(bind(parse("<image><image>", source="a.jsonl", line=7), 2), qwen, image_sizes=[(56, 56)])
