"""What `tokenize` takes and gives beyond the ids: spans, counts, batches, moved images, and what it refuses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from triptych_parser import BoundPrompt, MarkerError, bind, parse, tokenize, tokenize_batch
from triptych_parser.expanders import expander_of

SIZES = [(56, 84), (112, 56), (200, 40)]


def three(text: str = "A <image> b <image><image> c", **options: Any) -> BoundPrompt:
    return bind(parse(text, source="a.jsonl", line=7), 3, **options)


def test_spans_hold_all_placeholders_and_what_is_around_them(family: SimpleNamespace) -> None:
    processor = family.processor
    result = tokenize(three(), processor, image_sizes=SIZES, chat_template_images=family.chat_template_images)
    placeholder = processor.tokenizer.convert_tokens_to_ids(expander_of(processor).placeholder)
    inside = [at for span in result.spans for start, length in span.runs for at in range(start, start + length)]
    assert inside == [at for at, number in enumerate(result.ids) if number == placeholder]
    assert [span.image for span in result.spans] == [0, 1, 2]
    end = 0
    for span in result.spans:
        assert end <= span.start <= span.runs[0][0]
        end = span.start + span.length
        assert end >= sum(span.runs[-1])


@pytest.mark.parametrize(
    ("name", "opening", "closing"),
    [
        ("qwen2_vl", "<|vision_start|>", "<|vision_end|>"),
        ("qwen2_5_vl", "<|vision_start|>", "<|vision_end|>"),
        ("qwen3_vl", "<|vision_start|>", "<|vision_end|>"),
        ("glm4v", "<|begin_of_image|>", "<|end_of_image|>"),
        ("internvl", "<img>", "</img>"),
        ("gemma3", "<start_of_image>", "<end_of_image>"),
        ("gemma3_pan_and_scan", "<start_of_image>", "<end_of_image>"),
        ("smolvlm", "<fake_token_around_image>", "<fake_token_around_image>"),
        ("smolvlm_rows_as_text", "<fake_token_around_image>", "<fake_token_around_image>"),
        ("glm46v", "<|begin_of_image|>", "<|end_of_image|>"),
        ("ernie4_5_vl_moe", "<|IMAGE_START|>", "<|IMAGE_END|>"),
        ("paddleocr_vl", "<|IMAGE_START|>", "<|IMAGE_END|>"),
        ("kimi_k25", "<|media_content|>", "<|media_end|>"),
        ("gemma4", "<|image>", "<image|>"),
        ("aya_vision", "<|START_OF_IMG|>", "<|END_OF_IMG|>"),
        ("cohere2_vision", "<|START_OF_IMG|>", "<|END_OF_IMG|>"),
        ("lfm2_vl", "<|image_start|>", "<|image_end|>"),
        ("minicpmv4_6", "<image>", "</slice>"),
        ("minicpmv4_6_whole", "<image>", "</image>"),
        ("ovis2", "<IMG_START>", "<IMG_END>"),
        ("mistral3", "[IMG]", "[IMG_END]"),
    ],
)
def test_spans_begin_and_end_with_the_familys_own_tokens(build: Any, name: str, opening: str, closing: str) -> None:
    tokenizer = build(name).tokenizer
    result = tokenize(three(), build(name), image_sizes=SIZES)
    for span in result.spans:
        edges = (result.ids[span.start], result.ids[span.start + span.length - 1])
        assert tokenizer.convert_ids_to_tokens(list(edges)) == [opening, closing]


def test_neighbours_of_idefics2_share_the_token_between_them(build: Any) -> None:
    result = tokenize(three("<image><image> a <image>b"), build("idefics2"), image_sizes=SIZES)
    fake = build("idefics2").tokenizer.convert_tokens_to_ids("<fake_token_around_image>")
    first, second, third = result.spans
    assert [span.length for span in result.spans] == [5, 4, 5]
    assert second.start == first.start + first.length
    assert [result.ids[span.start] == fake for span in (first, second, third)] == [True, False, True]
    assert result.ids.count(fake) == 5


def test_tiles_are_runs_of_their_own(build: Any) -> None:
    one, tall = (
        tokenize(bind(parse("<image>"), 1), build("smolvlm"), image_sizes=[size]).spans[0]
        for size in [(28, 28), (112, 56)]
    )
    assert len(tall.runs) == 4 * 2 + 1
    assert len(one.runs) in (1, 4 * 4 + 1)
    assert {length for _, length in tall.runs} == {3}
    crops = tokenize(bind(parse("<image>"), 1), build("gemma3_pan_and_scan"), image_sizes=[(48, 100)]).spans[0]
    assert len(crops.runs) == 3


def test_counts_from_the_caller_equal_counts_from_sizes(build: Any) -> None:
    for name in ("qwen2_5_vl", "qwen3_vl", "glm4v", "llava_onevision"):
        sized = tokenize(three(), build(name), image_sizes=SIZES)
        counts = [span.num_features for span in sized.spans]
        assert tokenize(three(), build(name), image_tokens=counts) == sized


def test_a_bare_tokenizer_needs_only_the_image_token(qwen: Any) -> None:
    bound = bind(parse("<image:2> then <image:1> then <image:2>"), 2)
    result = tokenize(bound, qwen.tokenizer, image_token="<|image_pad|>", image_tokens=[3, 5])
    assert [(span.image, span.num_features) for span in result.spans] == [(1, 5), (0, 3), (1, 5)]
    assert result.ids == tokenize(bound, qwen, image_tokens=[3, 5]).ids
    assert tokenize(bind(parse("hi"), 0), qwen.tokenizer).ids == tokenize(bind(parse("hi"), 0), qwen).ids


def test_a_processor_of_no_known_family_counts_with_its_own_method(qwen: Any) -> None:
    class Unknown:
        image_token = "<|image_pad|>"
        tokenizer = qwen.tokenizer
        chat_template = qwen.chat_template

        def apply_chat_template(self, *arguments: Any, **options: Any) -> str:
            return str(qwen.apply_chat_template(*arguments, **options))

        def _get_num_multimodal_tokens(self, image_sizes: Any) -> dict[str, list[int]]:
            return qwen._get_num_multimodal_tokens(image_sizes=image_sizes)

    assert tokenize(three(), Unknown(), image_sizes=SIZES).ids == tokenize(three(), qwen, image_sizes=SIZES).ids


def test_what_the_template_refuses_is_a_refused_row(qwen: Any) -> None:
    template = (
        "{% if messages[0]['role'] != 'user' %}{{ raise_exception('Roles must\\nalternate') }}{% endif %}<|image_pad|>"
    )
    messages = [{"role": "assistant", "content": "<image>"}]
    bound = bind(parse(messages, source="a.jsonl", line=7), 1)
    with pytest.raises(MarkerError) as caught:
        tokenize(bound, qwen, image_sizes=SIZES[:1], chat_template=template)
    assert caught.value.summary == (
        "a.jsonl:7: the chat template refuses the messages, Roles must alternate; "
        "correct the roles and their order, or pass a chat_template that takes them"
    )


@pytest.mark.parametrize("expression", ["range(10 ** 9) | list", "1 // 0", "[][0].x"])
def test_what_a_template_s_expression_raises_is_a_refused_row(qwen: Any, expression: str) -> None:
    bound = bind(parse([{"role": "user", "content": "<image>"}], source="a.jsonl", line=7), 1)
    with pytest.raises(MarkerError, match="a.jsonl:7: the chat template refuses the messages, "):
        tokenize(bound, qwen, image_sizes=SIZES[:1], chat_template="{{ " + expression + " }}<|image_pad|>")


OPENED = "<|im_start|>{{ m.role }}\n"
ONLY_TEXTS = {
    "left out": OPENED + "{% if m.content is string %}{{ m.content }}{% endif %}",
    "shown": OPENED + "{{ m.content | trim }}",
    "added": "{{ '<|im_start|>' + m.role + '\n' + m.content }}",
    "split": OPENED + "{{ m.content.split('</think>')[-1] }}",
}


@pytest.mark.parametrize("text", ["user", "What is the capital of the country whose flag has a maple leaf?"])
@pytest.mark.parametrize("body", ONLY_TEXTS.values(), ids=ONLY_TEXTS)
def test_templates_that_take_only_texts_get_texts(qwen: Any, body: str, text: str) -> None:
    template = "{% for m in messages %}" + body + "<|im_end|>\n{% endfor %}"
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    got = tokenize(bind(parse(messages), 0), qwen.tokenizer, chat_template=template, add_generation_prompt=False)
    said = f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n"
    assert list(got.ids) == qwen.tokenizer(said, add_special_tokens=False)["input_ids"]


def test_a_template_that_leaves_out_what_the_user_says_is_refused(qwen: Any) -> None:
    bound = bind(parse([{"role": "user", "content": "user"}], source="a.jsonl", line=7), 0)
    with pytest.raises(MarkerError, match=r"a.jsonl:7: the chat template does not write the text of every system"):
        tokenize(bound, qwen.tokenizer, chat_template="{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}")


def test_a_batch_equals_a_loop(family: SimpleNamespace) -> None:
    texts = ["A <image> b <image><image>", "<image> <|im_end|> <image>", "<image>🙂"]
    texts += ["no image", ""] if expander_of(family.processor).takes_text_only else []
    bounds = [bind(parse(text), parse(text).num_markers) for text in texts]
    sizes = [SIZES[: bound.num_images] for bound in bounds]
    options: dict[str, Any] = {"chat_template_images": family.chat_template_images}
    batch = tokenize_batch(bounds, family.processor, image_sizes=sizes, **options)
    loop = [
        tokenize(bound, family.processor, image_sizes=size, **options)
        for bound, size in zip(bounds, sizes, strict=True)
    ]
    assert batch == loop


def test_a_batch_of_other_length_or_with_an_unknown_option_is_refused(qwen: Any) -> None:
    with pytest.raises(MarkerError, match=r"image_sizes needs one list per prompt \(expected 1, got 2\)"):
        tokenize_batch([three()], qwen, image_sizes=[SIZES, SIZES])
    with pytest.raises(TypeError, match="on_specials"):
        tokenize_batch([three()], qwen, image_sizes=[SIZES], on_specials="error")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_sizes": SIZES[:2]}, r"a\.jsonl:7: image_sizes needs one entry per image \(expected 3, got 2\)"),
        ({}, r"image_sizes needs one entry per image \(expected 3, got 0\)"),
        ({"image_tokens": [1]}, r"image_tokens needs one entry per image \(expected 3, got 1\)"),
        ({"image_token": "<nowhere>", "image_tokens": [1, 1, 1]}, "does not write <nowhere> once for every image"),
        (
            {"image_sizes": SIZES, "chat_template": "{{ messages[0].role }}"},
            r"once for every image \(expected 3, got 0\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(qwen: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MarkerError, match=message):
        tokenize(three(), qwen, **options)


def test_a_tokenizer_without_an_image_token_cannot_take_images(qwen: Any) -> None:
    with pytest.raises(MarkerError, match="no token is known to stand for an image"):
        tokenize(three(), qwen.tokenizer, image_tokens=[1, 1, 1])


def test_a_family_of_tiles_needs_sizes(build: Any) -> None:
    with pytest.raises(MarkerError, match="pass image_sizes instead of image_tokens"):
        tokenize(three(), build("smolvlm"), image_tokens=[9, 9, 9])


def test_a_template_that_moves_images_is_refused_overruled_or_accepted(build: Any) -> None:
    llava = build("llava")
    bound = bind(parse("Before: <image> after", source="a.jsonl", line=2), 1)
    with pytest.raises(MarkerError, match="a.jsonl:2: the chat template moves images away"):
        tokenize(bound, llava, image_sizes=[(28, 28)])
    inline = tokenize(bound, llava, image_sizes=[(28, 28)], chat_template_images="inline")
    moved = tokenize(bound, llava, image_sizes=[(28, 28)], chat_template_images="template")
    text = llava.tokenizer.decode(inline.ids).replace(" ", "")
    assert "Before:" + "<image>" * 4 + "after" in text
    assert "<image>\nBefore:after" in llava.tokenizer.decode(moved.ids).replace(" ", "")
    first = bind(parse("<image>what"), 1)
    assert tokenize(first, llava, image_sizes=[(28, 28)]).num_tokens > 4


def test_inline_equals_exact_where_the_template_moves_nothing(build: Any) -> None:
    single = ("qwen2_5_vl", "qwen3_vl", "glm4v", "gemma3", "ernie4_5_vl_moe", "kimi_k25", "gemma4")
    for name in (*single, "smolvlm", "mistral3", "lfm2_vl", "minicpmv4_6", "cohere2_vision", "aya_vision"):
        text = "A <image> b <image><image> c"
        exact, inline = (
            tokenize(three(text), build(name), image_sizes=SIZES, chat_template_images=way)
            for way in ("exact", "inline")
        )
        if name in ("gemma3", "gemma4", "smolvlm"):  # these templates write blanks where a part begins or ends
            assert [span.num_features for span in exact.spans] == [span.num_features for span in inline.spans]
        else:
            assert exact == inline


def test_what_an_earlier_call_left_in_the_tokenizer_changes_nothing(qwen: Any) -> None:
    expected = tokenize(three(), qwen, image_sizes=SIZES)
    qwen.tokenizer(["a", "b b b b"], padding=True, truncation=True, max_length=3)
    assert qwen.tokenizer.backend_tokenizer.truncation is not None
    assert tokenize(three(), qwen, image_sizes=SIZES) == expected
    qwen.tokenizer("<|im_end|>", split_special_tokens=True)
    assert qwen.tokenizer.backend_tokenizer.encode_special_tokens
    assert tokenize(three(), qwen, image_sizes=SIZES) == expected


def test_template_options_reach_the_template(qwen: Any) -> None:
    template = qwen.chat_template + "{{ ending }}"
    result = tokenize(
        three(),
        qwen,
        image_sizes=SIZES,
        chat_template=template,
        chat_template_kwargs={"ending": "red"},
        add_generation_prompt=False,
    )
    assert qwen.tokenizer.decode(result.ids).endswith("c<|im_end|>\nred")


def test_half_a_surrogate_pair_is_refused(qwen: Any) -> None:
    with pytest.raises(MarkerError, match=r"a\.jsonl:7: the text contains half of a character .*got '\\ud83d'"):
        tokenize(three("cut \ud83d <image><image><image>"), qwen, image_sizes=SIZES)


@pytest.mark.parametrize("option", ["on_special", "chat_template_images"])
def test_an_unknown_word_for_an_option_is_refused(qwen: Any, option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be one of .*, got 'maybe'"):
        tokenize(three(), qwen, image_sizes=SIZES, **{option: "maybe"})


def test_a_placeholder_the_tokenizer_breaks_up_is_refused(qwen: Any) -> None:
    class Swallowing(type(qwen.tokenizer)):  # type: ignore[misc]
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return {"input_ids": [1, 2, 3]}

    tokenizer = Swallowing(tokenizer_object=qwen.tokenizer.backend_tokenizer, chat_template=qwen.chat_template)
    with pytest.raises(MarkerError, match=r"a\.jsonl:7: the tokenizer did not keep every .*expected 3, got 0"):
        tokenize(three(), tokenizer, image_token="<|image_pad|>", image_tokens=[1, 1, 1])
