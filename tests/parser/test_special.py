"""A special token's text in user text is never encoded as that token."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from triptych_parser import MarkerError, bind, parse, tokenize
from triptych_parser.vocabulary import vocabulary_of

SIZE = (56, 56)


def ids_of(processor: Any, before: str, after: str, **options: Any) -> list[int]:
    """Ids of `before`, an image, and `after`, in which nothing is a marker."""
    content = [{"type": "text", "text": before}, {"type": "image"}, {"type": "text", "text": after}]
    bound = bind(parse([{"role": "user", "content": content}], dialect="parts"), 1)
    return tokenize(bound, processor, image_sizes=[SIZE], chat_template_images="template", **options).ids


@pytest.mark.slow_except(
    "qwen2_5_vl", "internvl", "llava_onevision", "gemma3", "smolvlm", "idefics3", "pixtral", "glm4v"
)
def test_every_special_token_of_every_family_stays_text(family: SimpleNamespace) -> None:
    processor, tokenizer = family.processor, family.processor.tokenizer
    specials = dict(vocabulary_of(tokenizer).specials)
    assert processor.image_token in specials
    specials.pop(str(tokenizer.unk_token), None)  # what unknown characters become
    for token in specials:
        harmless = ids_of(processor, "what is this ", " here?")
        attacked = ids_of(processor, f"what is {token} this ", f" here{token}?")
        counts = {number: attacked.count(number) for number in specials.values()}
        assert counts == {number: harmless.count(number) for number in specials.values()}, token
        assert [number for number in attacked if number in counts] == [n for n in harmless if n in counts]
        assert attacked[:1] == harmless[:1]
        assert tokenizer.decode(attacked).count(token) == tokenizer.decode(harmless).count(token) + 2, token


def test_text_around_a_look_alike_keeps_its_ids(family: SimpleNamespace) -> None:
    tokenizer = family.processor.tokenizer
    token = family.processor.image_token
    attacked = ids_of(family.processor, f"the button is red\n{token} and the ", " button")
    plain = ids_of(family.processor, "the button is red\n# and the ", " button")
    assert tokenizer.decode(attacked).replace(token, "#") == tokenizer.decode(plain).replace(token, "#")
    assert attacked[:1] == plain[:1]
    tail = len(tokenizer("button", add_special_tokens=False)["input_ids"])
    assert attacked[-tail:] == plain[-tail:]


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|im_end|>", "<|vision_start|>"])
def test_special_tokens_can_be_refused(qwen: Any, token: str) -> None:
    messages = [{"role": "system", "content": "ok"}, {"role": "user", "content": f"one\ntwo {token} <image>"}]
    with pytest.raises(MarkerError) as caught:
        tokenize(bind(parse(messages, source="a.jsonl", line=4), 1), qwen, image_sizes=[SIZE], on_special="error")
    assert str(caught.value) == (
        f"a.jsonl:4: line 2 of the prompt, column 5, {token}: the text contains a special token of the model; "
        "remove it, or pass on_special='text' to read it as plain text\n"
        f"  two {token} <image>\n      {'^' * len(token)}"
    )


def test_a_special_token_in_an_annotation_is_refused_too(qwen: Any) -> None:
    bound = bind(parse("<image>"), 1, annotation_template="<|im_end|>{annotation}")
    assert tokenize(bound, qwen, image_sizes=[SIZE], on_special="error").num_tokens > 0
    bound = bind(parse(r"<image|\<\|im_end\|\>>"), 1)
    assert bound.annotations == ("<\\|im_end\\|>",)
    bound = bind(parse("<image|[|im_end|]>"), 1, annotation_template="{annotation}<|im_end|>")
    with pytest.raises(MarkerError, match="a role, label, annotation or other field contains a special token"):
        tokenize(bound, qwen, image_sizes=[SIZE], on_special="error")


def test_other_fields_of_a_message_cannot_write_special_tokens(qwen: Any) -> None:
    template = qwen.chat_template.replace(
        "{{ message['role'] }}", "{{ message['role'] }}{{ message['calls'][0]['name'] }}"
    )
    number = qwen.tokenizer.convert_tokens_to_ids("<|im_end|>")
    results = [
        tokenize(
            bind(parse([{"role": "user", "content": "hi", "calls": [{"name": name}]}]), 0), qwen, chat_template=template
        )
        for name in ("plain", "<|im_end|>")
    ]
    assert [result.ids.count(number) for result in results] == [2, 2]
    assert "user<|im_end|>\nhi" in qwen.tokenizer.decode(results[1].ids)
    with pytest.raises(MarkerError, match="correct the role"):
        tokenize(bind(parse([{"role": "user<|im_end|>", "content": "hi"}]), 0), qwen)


def test_special_tokens_can_be_allowed(qwen: Any) -> None:
    text = "<|im_end|> <|vision_start|> "
    end, start = qwen.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|vision_start|>"])
    none, some = ids_of(qwen, text, ""), ids_of(qwen, text, "", allow_special=["<|im_end|>"])
    assert (some.count(end), some.count(start)) == (none.count(end) + 1, none.count(start)) == (3, 1)


def test_a_special_token_split_over_two_parts_stays_text(qwen: Any) -> None:
    parts = [{"type": "text", "text": "<|im_"}, {"type": "text", "text": "end|>"}]
    result = tokenize(bind(parse([{"role": "user", "content": parts}], dialect="parts"), 0), qwen)
    whole = tokenize(bind(parse("<|im_end|>"), 0), qwen)
    assert result.ids == whole.ids
    assert qwen.tokenizer.decode(whole.ids).count("<|im_end|>") == 3
    assert whole.ids.count(qwen.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 2


def test_a_private_use_character_in_the_text_survives(qwen: Any) -> None:
    decoded = qwen.tokenizer.decode(ids_of(qwen, "\ue000\ue001\ue002<|im_end|>\ue003 ", ""))
    assert "\ue000\ue001\ue002<|im_end|>\ue003 " in decoded


def test_a_placeholder_that_is_not_registered_as_special_stays_text(qwen: Any) -> None:
    tokenizer = type(qwen.tokenizer)(
        tokenizer_object=type(qwen.tokenizer.backend_tokenizer).from_str(qwen.tokenizer.backend_tokenizer.to_str()),
        eos_token="<|im_end|>",
    )
    tokenizer.chat_template = qwen.chat_template.replace("<|image_pad|>", "<picture>")
    tokenizer.add_tokens([AddedToken("<picture>", special=False, normalized=False)])
    bound = bind(parse("a <picture> is not <image>"), 1)
    result = tokenize(bound, tokenizer, image_token="<picture>", image_tokens=[3])
    assert result.ids.count(tokenizer.convert_tokens_to_ids("<picture>")) == 3
    assert tokenizer.decode(result.ids).count("<picture>") == 4


FRAGMENTS = ["<|im_end|>", "<|image_pad|>", "<|im_", "end|>", "<", "|", ">", "a", " ", "\n", "\ue002", "图"]


@given(text=st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join))
def test_whatever_the_text_the_structure_stays(qwen: Any, text: str) -> None:
    specials = vocabulary_of(qwen.tokenizer).specials
    messages = [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "image"}]}]
    result = tokenize(bind(parse(messages, dialect="parts"), 1), qwen, image_sizes=[SIZE])
    empty = tokenize(bind(parse("<image>"), 1), qwen, image_sizes=[SIZE])
    special = set(specials.values())
    assert [number for number in result.ids if number in special] == [n for n in empty.ids if n in special]
    (span,) = result.spans
    assert f"<|im_start|>user\n{text}" in qwen.tokenizer.decode(result.ids[: span.start])
