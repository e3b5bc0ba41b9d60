"""Messages in the forms of TRL's response templates: a call is read whole or not at all; a cut thought stays open."""

import pytest
from triptych_trainer.demo import build_tokenizer
from triptych_trainer.demo.look.tokenizer import build_tokenizer as build_look_tokenizer
from triptych_trainer.grpo.trl.responses import form_of_parameters, read_response
from triptych_trainer.rewards import completion_text
from triptych_trainer.trajectories.calls import Call, calls_of, read_calls, why_unread
from triptych_trainer.trajectories.toolbox import tool_of
from trl import chat_template_utils as trl_templates


def zoom(image: int, box: str = "all") -> str:
    """Zoom in.

    Args:
        image: the number of an image.
        box: where.
    """


QWEN, XML, LFM, GEMMA, GLM = "qwen3", "qwen3_5", "lfm2_2_5", "gemma4", "glm4moe"
FORMS = {
    QWEN: '<tool_call>\n{"name": "zoom", "arguments": {%s}}\n</tool_call>',
    XML: "<tool_call>\n<function=zoom>\n%s\n</function>\n</tool_call>",
    LFM: "<|tool_call_start|>[zoom(%s)]<|tool_call_end|>",
    GEMMA: "<|tool_call>call:zoom{%s}<tool_call|>",
}
ENDS = {GEMMA: "<turn|>"}
BEFORE = {GEMMA: "<|turn>model\n"}


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def read(tokenizer, form, said):
    tokenizer.response_template = getattr(trl_templates, f"{form}_template")
    before = BEFORE.get(form, "<|im_start|>assistant\n")
    ids, prefix = (tokenizer(text)["input_ids"] for text in (said + ENDS.get(form, "<|im_end|>"), before))
    return read_response(tokenizer, ids, prefix=prefix, tools=[tool_of(zoom).schema])


@pytest.mark.parametrize(
    ("form", "written"),
    [
        (QWEN, '"image": 1, "box": "a"'),
        (XML, "<parameter=image>\n1\n</parameter>\n<parameter=box>\na\n</parameter>"),
        (LFM, "image=1, box='a'"),
        (GEMMA, 'image:1,box:<|"|>a<|"|>'),
    ],
)
def test_a_call_in_the_form_of_its_template_is_read(tokenizer, form, written):
    expected = [Call(name="zoom", arguments={"image": 1, "box": "a"})]
    assert calls_of(read(tokenizer, form, f"Closer. {FORMS[form] % written}")) == expected
    assert calls_of(read(tokenizer, form, FORMS[form] % written * 2)) == expected * 2
    assert calls_of(read(tokenizer, form, "Red.")) == []


@pytest.mark.parametrize(
    ("form", "written", "reason"),
    [
        (QWEN, '"image": 1}, "why": {"box": "a"', """it has the key 'why'; a call has only "name" and "arguments\""""),
        (QWEN, '"image": 1, "image": 2', "the key 'image' is in it twice"),
        (GEMMA, 'image:1,image:2,box:<|"|>{a,b:<|"|>', "the key 'image' is in it twice"),
        (
            XML,
            "<parameter=image>1</parameter>\n<parameter=box>a",
            "'<parameter=box>a' in it is not written as <parameter=NAME>VALUE</parameter>",
        ),
        (
            XML,
            "<parameter=image>1</parameter>\nbox: a",
            "'box: a' in it is not written as <parameter=NAME>VALUE</parameter>",
        ),
        (XML, "<parameter=image>1</parameter><parameter=image>2</parameter>", "the key 'image' is in it twice"),
        (LFM, "1, box='a'", "'1' in it is not written as NAME=VALUE"),
        (LFM, "image=1, box='it's'", """"s'" in it is not written as NAME=VALUE"""),
        (LFM, 'image=1, box="a, b"', """'b"' in it is not written as NAME=VALUE"""),
        (LFM, "image=1, box='a) b'", "it ends before its <|tool_call_end|>"),
    ],
)
def test_a_call_with_more_in_it_is_a_text_and_says_why(tokenizer, form, written, reason):
    said = FORMS[form] % written
    message = read(tokenizer, form, said)
    assert "tool_calls" not in message
    assert message["unread"] == reason
    assert "zoom" in message["content"]


@pytest.mark.parametrize("said", ["I count three, print(3) says so.", "<think>a, b(1)</think>Three, f(x)"])
def test_an_answer_that_looks_like_a_further_call_is_none(tokenizer, said):
    message = read(tokenizer, LFM, said)
    assert "tool_calls" not in message
    assert "unread" not in message
    assert message["content"] == said.rpartition("</think>")[2]


def test_a_call_behind_what_looks_like_one_is_named(tokenizer):
    message = read(tokenizer, LFM, f"First, look(1) and then {FORMS[LFM] % 'image=1'}")
    assert message["unread"] == "'look()' stands before it"
    reasoned = read(tokenizer, LFM, f"<think>First, look(1)</think>{FORMS[LFM] % 'image=1'}")
    assert calls_of(reasoned) == [Call(name="zoom", arguments={"image": 1})]


def test_a_call_without_its_end_is_not_done(tokenizer):
    message = read(tokenizer, XML, (FORMS[XML] % "<parameter=image>1</parameter>").removesuffix("</tool_call>"))
    assert message["unread"] == "its end is missing"


def test_a_key_that_the_response_template_leaves_out_is_named(tokenizer):
    fields = trl_templates.qwen3_template["fields"]
    taken = {"type": "function", "function": {"name": "{content.name}", "arguments": "{content.arguments}"}}
    calls = {**fields["tool_calls"], "transform": taken}
    tokenizer.response_template = {**trl_templates.qwen3_template, "fields": {**fields, "tool_calls": calls}}
    said = FORMS[QWEN] % '"image": 1}, "why": {"box": "a"'
    ids = tokenizer(said + "<|im_end|>")["input_ids"]
    assert "the key 'why'" in read_response(tokenizer, ids, prefix=[], tools=[])["unread"]


def test_a_key_that_is_there_twice_is_no_call_in_user_mode():
    text = '<tool_call>{"name": "zoom", "arguments": {"image": 1, "image": 2}}</tool_call>'
    assert read_calls(text) == []
    assert why_unread(text, num_calls=0, reads_json=True) == "the key 'image' is in it twice"


@pytest.mark.parametrize("form", [QWEN, XML])
@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("<think>I see", "<think>I see"),
        ("<think>I see</think>red", "<think>I see</think>red"),
        ("<think>I see</think>", "<think>I see</think>"),
        ("Hm <think>I see", "Hm<think>I see"),
    ],
)
def test_a_thought_is_closed_only_where_the_model_closed_it(tokenizer, form, said, text):
    assert completion_text([read(tokenizer, form, said)]) == text


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (GLM, "<arg_key>NAME</arg_key><arg_value>VALUE</arg_value>"),
        (XML, "<parameter=NAME>VALUE</parameter>"),
        (LFM, "NAME=VALUE"),
    ],
)
def test_the_form_of_a_parameter_is_that_of_the_template(form, expected):
    field = getattr(trl_templates, f"{form}_template")["fields"]["tool_calls"]
    assert form_of_parameters(field["content_args"]["tag_pattern"]) == expected


def test_a_parameter_without_its_value_is_named_in_the_demo():
    demo = build_look_tokenizer()
    prefix, ids = (demo(text)["input_ids"] for text in ("<|im_start|>assistant\n", "<tool_call> look box</tool_call>"))
    message = read_response(demo, [*ids, demo.eos_token_id], prefix=prefix, tools=[])
    assert message["unread"] == "'box' in it is not written as NAME VALUE"
