"""Calls in messages of the assistant: a template that leaves out a name or a text of them is refused."""

import json

import pytest
from triptych_parser import MarkerError, bind, parse
from triptych_parser.calls import check_calls

CALL = {
    "type": "function",
    "id": "a",
    "function": {"name": "look", "arguments": {"at": ["cup", 3], "deep": {"w": "x"}}},
}
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]


def functions(messages):
    return [call.get("function") or call for message in messages for call in message.get("tool_calls") or ()]


WRITERS = {
    "no call": lambda messages: "hi",
    "names alone": lambda messages: str([call["name"] for call in functions(messages)]),
    "arguments alone": lambda messages: str([call["arguments"] for call in functions(messages)]),
    "the first text": lambda messages: str([(call["name"], call["arguments"]["at"]) for call in functions(messages)]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_template_that_leaves_something_out_is_refused(name):
    with pytest.raises(
        MarkerError, match="message 2: the chat template does not write all names and arguments of its tool_calls"
    ) as caught:
        check_calls(bind(parse(MESSAGES), 0), MESSAGES, write=WRITERS[name])
    assert "as text, or pass a chat_template" in str(caught.value)


def test_a_template_that_writes_one_of_two_calls_is_refused():
    twice = [MESSAGES[0], {**MESSAGES[1], "tool_calls": [CALL, CALL]}]
    with pytest.raises(MarkerError, match="message 2: the chat template does not write all names"):
        check_calls(bind(parse(twice), 0), twice, write=lambda messages: str(functions(messages)[0]))


@pytest.mark.parametrize(
    "call", [CALL, CALL["function"], {"name": "look"}, {"function": {"name": "look", "arguments": '{"at": "cup"}'}}]
)
def test_whole_calls_pass_in_every_shape(call):
    messages = [MESSAGES[0], {**MESSAGES[1], "tool_calls": [call]}]
    written = []

    def write(given):
        written.append(json.dumps(functions(given)))  # in ASCII
        return written[-1]

    check_calls(bind(parse(messages), 0), messages, write=write)
    assert len(written) == 1
    assert "look" not in written[0]
    assert messages[1]["tool_calls"] == [call]


def test_nothing_is_written_where_nothing_is_called():
    check_calls(bind(parse(MESSAGES[:1]), 0), [MESSAGES[0], {"role": "assistant", "tool_calls": []}], write=pytest.fail)


def test_an_empty_text_is_one_part_and_a_missing_one_is_none():
    parts = [{"role": "user", "content": []}, {"role": "user", "content": [{"type": "text", "text": ""}]}]
    messages = bind(parse([{"role": "user", "content": ""}, {"role": "assistant"}, *parts]), 0).messages()
    empty = [{"type": "text", "text": ""}]
    assert [message.get("content") for message in messages] == [empty, None, [], empty]
