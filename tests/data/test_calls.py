"""Recorded calls of the assistant are part of a prompt: read as they are, shown, and told apart."""

import pytest
from refused_rows import USER
from triptych_data import DataError, read_examples
from triptych_data.scan import row_digest

CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "cup", "n": None}}}
RESULT = {"role": "tool", "name": "look", "content": "a red cup"}
SILENT = {"role": "assistant", "tool_calls": [CALL]}


def talk(*turns, column="prompt"):
    return {column: [USER, *turns]}


@pytest.mark.parametrize("said", [{}, {"content": None}, {"content": ""}, {"content": "Wait."}])
@pytest.mark.parametrize("column", ["prompt", "messages"])
def test_a_call_is_passed_on_as_it_is(write_jsonl, column, said):
    answer = [{"role": "assistant", "content": "red"}] * (column == "messages")
    (example,) = read_examples(write_jsonl([talk({**SILENT, **said}, RESULT, *answer, column=column)]))
    _, called, result = example.prompt.messages()
    assert called["tool_calls"] == [CALL]
    texts = {None: None, "": [{"type": "text", "text": ""}], "Wait.": [{"type": "text", "text": "Wait."}]}
    assert called.get("content") == texts[said.get("content")]
    assert (result["role"], result["name"]) == ("tool", "look")
    assert example.prompt.shown()[1][-1] == '\n[call of look({"at": "cup", "n": null})]'
    assert example.answer == ("red" if answer else None)


def test_rows_that_differ_in_a_call_do_not_repeat_each_other(write_jsonl):
    other = {"name": "look", "arguments": '{"at": "cup"}'}
    rows = [talk(SILENT, RESULT), talk({**SILENT, "tool_calls": [other]}, RESULT), talk(SILENT, RESULT)]
    first, second, third = map(row_digest, read_examples(write_jsonl(rows)))
    assert first == third != second


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            talk({**SILENT, "tool_calls": ["look()"]}, RESULT),
            r"prompt\[1\].tool_calls to be a list of calls, got 'look",
        ),
        (talk({**SILENT, "tool_calls": [{"name": "a"}, {"id": 1}]}, RESULT), "got {'id': 1} as call 2; write {"),
        (talk({**SILENT, "tool_calls": {"name": 3}}, RESULT), "got {'name': 3} as call 1"),
        (talk({**SILENT, "tool_calls": [{"name": "a", "arguments": [1]}]}, RESULT), "as call 1"),
        (talk({**USER, "tool_calls": [CALL]}), r"by the assistant alone, got it in prompt\[1\] by the user; write"),
        (talk({**SILENT, "content": "x"}, column="messages"), r"answer in messages\[1\] to be text, got tool_calls"),
        (talk(SILENT), "to end with the user, got a turn by the assistant last"),
    ],
)
def test_what_is_no_call_of_a_prompt_is_refused(write_jsonl, row, message):
    with pytest.raises(DataError, match=message):
        read_examples(write_jsonl([row]))
