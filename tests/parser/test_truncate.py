"""A prompt is brought within its limit without cutting an image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from triptych_parser import MarkerError, TokenizedPrompt, bind, parse, tokenize

SIZES = [(56, 84), (112, 56), (56, 56)]
TEXT = "First the old screen is shown: <image> and then the new one: <image> now <image> say 图 what 🙂 changed here"


def run(processor: Any, text: str = TEXT, **options: Any) -> TokenizedPrompt:
    bound = bind(parse(text, source="a.jsonl", line=3), 3)
    placement = options.pop("placement", "exact")
    return tokenize(bound, processor, image_sizes=SIZES, placement=placement, **options)


def images_of(result: TokenizedPrompt) -> list[list[int]]:
    return [result.ids[span.start : span.start + span.length] for span in result.spans]


def test_a_prompt_within_its_limit_is_left_alone(qwen: Any) -> None:
    whole = run(qwen)
    for truncate in ("error", "text_left", "text_right", "drop_images_from_end"):
        assert run(qwen, max_prompt_tokens=whole.num_tokens, truncate=truncate) == whole


def test_too_long_is_an_error_by_default(qwen: Any) -> None:
    whole = run(qwen)
    images = sum(span.length for span in whole.spans)
    with pytest.raises(MarkerError) as caught:
        run(qwen, max_prompt_tokens=whole.num_tokens - 1)
    assert str(caught.value).startswith(
        f"a.jsonl:3: the prompt is too long: {images} of its tokens are images "
        f"(expected at most {whole.num_tokens - 1} tokens, got {whole.num_tokens})"
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_text_goes_and_images_and_the_template_stay(family: SimpleNamespace, side: str) -> None:
    processor, tokenizer = family.processor, family.processor.tokenizer
    placement = "inline" if family.name.startswith("llava") else "exact"
    whole = run(processor, placement=placement)
    cut = run(processor, placement=placement, max_prompt_tokens=whole.num_tokens - 9, truncate=f"text_{side}")
    assert cut.num_tokens <= whole.num_tokens - 9
    assert cut.num_dropped_tokens == whole.num_tokens - cut.num_tokens < 9 + 4
    assert images_of(cut) == images_of(whole)
    assert [span.num_features for span in cut.spans] == [span.num_features for span in whole.spans]
    decoded = tokenizer.decode(cut.ids)
    assert "\ufffd" not in decoded
    assert ("First the old" in decoded) is (side == "right")
    assert ("changed here" in decoded) is (side == "left")
    ending = tokenizer.decode(run(processor, "<image><image><image>", placement=placement).ids[-3:])
    assert decoded.endswith(ending[-8:])


def test_every_limit_down_to_the_images_is_met(qwen: Any) -> None:
    whole = run(qwen)
    bare = run(qwen, "<image><image><image>")
    for side in ("text_left", "text_right"):
        for limit in range(bare.num_tokens, whole.num_tokens):
            cut = run(qwen, max_prompt_tokens=limit, truncate=side)
            assert cut.num_tokens <= limit
            assert images_of(cut) == images_of(whole)
            assert "\ufffd" not in qwen.tokenizer.decode(cut.ids)
        assert run(qwen, max_prompt_tokens=bare.num_tokens, truncate=side).ids == bare.ids
        with pytest.raises(MarkerError, match="too long even without its text"):
            run(qwen, max_prompt_tokens=bare.num_tokens - 1, truncate=side)


def test_text_with_a_look_alike_is_cut_like_any_other(qwen: Any) -> None:
    text = "A <|im_end|> b <|image_pad|> c <image><image><image> tail"
    whole, bare = run(qwen, text), run(qwen, "<image><image><image>")
    for limit in range(bare.num_tokens, whole.num_tokens):
        cut = run(qwen, text, max_prompt_tokens=limit, truncate="text_right")
        assert cut.num_tokens <= limit
        assert images_of(cut) == images_of(whole)
        assert qwen.tokenizer.decode(cut.ids).endswith("<|vision_end|><|im_end|>\n<|im_start|>assistant\n") is (
            limit <= whole.num_tokens - len(qwen.tokenizer(" tail")["input_ids"])
        )
    assert cut.ids != bare.ids
    assert run(qwen, text, max_prompt_tokens=bare.num_tokens, truncate="text_right").ids == bare.ids


def test_images_go_from_the_end_with_their_labels(family: SimpleNamespace) -> None:
    placement = "template" if family.name.startswith("llava") else "exact"
    options: dict[str, Any] = {"image_sizes": SIZES, "placement": placement}
    messages = [
        {"role": "user", "content": "a <image|one> b <image|two>"},
        {"role": "user", "content": "<image|three> c"},
    ]
    bound = bind(parse(messages), 3)
    whole = tokenize(bound, family.processor, **options)
    two = bind(
        parse([{"role": "user", "content": "a one: <image> b two: <image>"}, {"role": "user", "content": " c"}]), 2
    )
    expected = tokenize(two, family.processor, image_sizes=SIZES[:2], placement=placement)
    cut = tokenize(
        bound, family.processor, **options, max_prompt_tokens=whole.num_tokens - 1, truncate="drop_images_from_end"
    )
    assert (cut.ids, cut.spans, cut.dropped_images) == (expected.ids, expected.spans, (2,))


def test_dropping_images_can_take_all_and_then_gives_up(qwen: Any) -> None:
    whole = run(qwen)
    text = tokenize(bind(parse(TEXT.replace("<image>", "")), 0), qwen)
    cut = run(qwen, max_prompt_tokens=text.num_tokens, truncate="drop_images_from_end")
    assert (cut.ids, cut.spans, cut.dropped_images) == (text.ids, (), (0, 1, 2))
    with pytest.raises(MarkerError, match="too long even without images") as caught:
        run(qwen, max_prompt_tokens=text.num_tokens - 1, truncate="drop_images_from_end")
    assert caught.value.got == whole.num_tokens


def test_an_unknown_policy_is_refused_even_when_nothing_is_cut(qwen: Any) -> None:
    with pytest.raises(ValueError, match="truncate must be one of 'error', 'text_left', .*, got 'middle'"):
        run(qwen, truncate="middle")


def test_a_prompt_without_images_is_cut_too(qwen: Any) -> None:
    bound = bind(parse("one two three four five six"), 0)
    for processor in (qwen, qwen.tokenizer):
        whole = tokenize(bound, processor)
        cut = tokenize(bound, processor, max_prompt_tokens=whole.num_tokens - 5, truncate="text_left")
        assert cut.num_tokens == whole.num_tokens - 5
        kept = qwen.tokenizer.decode(cut.ids)
        assert kept.endswith("six<|im_end|>\n<|im_start|>assistant\n")
        assert kept.startswith("<|im_start|>system\n")
