"""The tokens of the assistant's turns: all of them with their ends, and no others."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import trl
from triptych_data import DataError, read_examples
from triptych_data.prompt_settings import PromptSettings

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ p['text'] WORD }}{% endif %}"
    "{% endfor %}END\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\nBEGIN{% endif %}"
)


def template(*, word="", begin="", end="<|im_end|>"):
    text = TEMPLATE.replace("WORD", word).replace("BEGIN", begin).replace("END", end)
    return PromptSettings(chat_template_kwargs={"chat_template": text})


def stretches(row, processor):
    """The texts of neighbouring trained tokens."""
    found, before = [], False
    for token, counts in zip(row.prompt.ids, row.trained, strict=True):
        if counts:
            found = [*found[:-1], [*found[-1], token]] if before else [*found, [token]]
        before = counts
    return [processor.tokenizer.decode(ids) for ids in found]


def test_every_turn_of_the_assistant_is_trained_with_its_end(prepare, processor):
    row = prepare(
        ("system", "Be brief."),
        ("user", "First <image>. What?"),
        ("assistant", "red thing"),
        ("tool", "seen <image>"),
        ("assistant", "two of <|im_end|> them"),
    )
    assert stretches(row, processor) == ["red thing<|im_end|>", "two of <|im_end|> them<|im_end|>"]
    ends = [k for k in range(len(row.trained)) if row.prompt.ids[k] == processor.tokenizer.eos_token_id]
    assert [row.trained[k] for k in ends] == [False, False, True, False, True], "the look-alike is no special token"
    assert len(row.prompt.spans) == 2
    assert not any(row.trained[k] for span in row.prompt.spans for k in range(span.start, span.start + span.length))


def test_an_end_is_added_where_the_template_leaves_it_to_the_model(prepare, processor):
    row = prepare(("user", "a"), ("assistant", "red"), settings=template(end=""))
    assert stretches(row, processor) == ["red<|im_end|>"]
    with pytest.raises(DataError, match=r"expected a token that ends the assistant's turn 2, got none.*each row"):
        prepare(("user", "a"), ("assistant", "red"), ("user", "b"), ("assistant", "c"), settings=template(end=""))
    with pytest.raises(DataError, match=r"ends the last turn, got none.*set eos_token"):
        prepare(("user", "a"), ("assistant", "red"), settings=template(end=""), end_ids={1})


@pytest.mark.parametrize(
    ("turns", "settings", "message"),
    [
        ((("user", "a"),), None, r"rows.jsonl:1 .*row-0.*expected a text of the assistant to train on, got none"),
        ((("user", "a"), ("assistant", " ")), None, "expected a text of the assistant to train on"),
        ((("user", "a"), ("assistant", "red")), template(begin="<think>"), r"turn 2 behind .*enable_thinking"),
        ((("user", "a"), ("assistant", "red thing")), template(word="[:3]"), r"spell all of its text, got .*red thing"),
        ((("user", "a b " * 60), ("assistant", "red")), None, r"at most 100 tokens, got \d+, 0 of them for 0 images"),
    ],
)  # fmt: skip
def test_what_would_be_a_guess_is_refused(prepare, turns, settings, message):
    with pytest.raises(DataError, match=message):
        prepare(*turns, **({"settings": settings} if settings else {}))


@pytest.mark.parametrize("key", ["weight", "loss_scale"])
def test_a_turn_that_others_leave_out_of_the_loss_is_refused(prepare, key):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", key: 0}]
    with pytest.raises(DataError, match=rf"the assistant to count in the loss, got {key} 0 in messages\[1\]"):
        prepare(("user", "a"), columns={"messages": messages})


def test_thoughts_next_to_the_content_are_trained_or_refused(prepare, processor):
    """Those of the last message were left out without a word."""
    turns = ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")
    messages = [dict(zip(("role", "content"), turn, strict=True)) for turn in turns]
    last = [*messages[:3], {**messages[3], "reasoning_content": "red"}]
    said = r"expected all that the assistant says last in its content, got reasoning_content in messages\[3\]; write it"
    with pytest.raises(DataError, match=said):
        prepare(*turns, columns={"messages": last})
    for name, is_refused in (("os", True), ("all", False)):
        to = [*messages[:3], {**messages[3], "recipient": name}]
        with pytest.raises(DataError, match=r"recipient in messages\[3\]") if is_refused else nullcontext():
            prepare(*turns, columns={"messages": to})
    earlier = [messages[0], {**messages[1], "recipient": "os"}, *messages[2:]]
    with pytest.raises(DataError, match=r"writes no recipient of the assistant; write it into the content as text"):
        prepare(*turns, columns={"messages": earlier})
    earlier = [messages[0], {**messages[1], "reasoning_content": "red"}, *messages[2:]]
    with pytest.raises(
        DataError, match=r"writes no reasoning_content of the assistant; write it into the content, bet"
    ):
        prepare(*turns, columns={"messages": earlier})
    writing = template()
    text = writing.chat_template_kwargs["chat_template"].replace(
        "{% for p in m['content'] %}", "{{ m['reasoning_content'] }}{% for p in m['content'] %}"
    )
    row = prepare(
        *turns, columns={"messages": earlier}, settings=PromptSettings(chat_template_kwargs={"chat_template": text})
    )
    assert stretches(row, processor) == ["redb<|im_end|>", "d<|im_end|>"]
    cutting = text.replace("{{ m['reasoning_content'] }}", "{% if loop.last %}{{ m['reasoning_content'] }}{% endif %}")
    with pytest.raises(DataError, match=r"assistant's turn 2 to spell all of its text, got .* for 'red'"):
        prepare(
            *turns,
            columns={"messages": earlier},
            settings=PromptSettings(chat_template_kwargs={"chat_template": cutting}),
        )


@pytest.mark.parametrize(
    ("row", "reply"),
    [
        ({"problem": "a", "solution": "<think>b</think> 3", "answer": "3"}, "<think>b</think> 3"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "so 3"}], "answer": "3"}, "so 3"),
        ({"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}, "b"),
        ({"problem": "a", "answer": ["3", "three"]}, None),
        ({"problem": "a"}, None),
    ],
)  # fmt: skip
def test_the_reply_of_a_row_is_its_last_turn_or_its_longest_answer(tmp_path, row, reply):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    assert read_examples(tmp_path / "rows.jsonl")[0].reply == reply


def test_the_calls_of_a_turn_are_trained_with_it(prepare, processor):
    call = {"function": {"name": "look", "arguments": {"at": "cup"}}}
    asked, said = {"role": "user", "content": "a"}, {"role": "assistant", "content": "red", "tool_calls": [call]}
    messages = [asked, said, {"role": "tool", "content": "seen"}, {"role": "assistant", "content": "two"}]
    with pytest.raises(DataError, match="message 2: the chat template does not write all names and arguments of its"):
        prepare(("user", "a"), columns={"messages": messages})
    written = (Path(trl.__file__).parent / "chat_templates" / "qwen3_vl.jinja").read_text(encoding="utf-8")
    settings = PromptSettings(chat_template_kwargs={"chat_template": written})
    row = prepare(("user", "a"), columns={"messages": messages}, settings=settings, max_tokens=200)
    first, second = stretches(row, processor)
    assert first == 'red\n<tool_call>\n{"name": "look", "arguments": {"at": "cup"}}\n</tool_call><|im_end|>'
    assert second == "two<|im_end|>"
