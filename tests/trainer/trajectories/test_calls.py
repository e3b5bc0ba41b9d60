"""Calls: why one cannot be read, and what becomes of every way in which a tool can end."""

import asyncio
import sys
import time

import pytest
from triptych_trainer.trajectories.async_loop import AsyncLoop, tool_loop
from triptych_trainer.trajectories.calls import Call, CallRequest, calls_of, do_calls, read_calls, why_unread
from triptych_trainer.trajectories.images import RolloutImages
from triptych_trainer.trajectories.toolbox import toolbox

GOOD = '<tool_call>{"name": "look"}</tool_call>'


@pytest.mark.parametrize(
    ("text", "num_calls", "reason"),
    [
        ("I see red.", 0, None),
        (GOOD, 1, None),
        ('<tool_call>{"name": "look"', 0, "its </tool_call> is missing"),
        (f'{GOOD}<tool_call>{{"name": "look"', 1, "its </tool_call> is missing"),
        (
            '<tool_call>{"name": look}</tool_call>',
            0,
            "it is not valid JSON (Expecting value: line 1 column 10 (char 9))",
        ),
        (f"{GOOD}<tool_call>[1]</tool_call>", 0, 'it is not a JSON object with the "name" of a tool'),
        (
            '<tool_call>{"name": "look", "parameters": {"image": 2}}</tool_call>',
            0,
            """it has the key 'parameters'; a call has only "name" and "arguments\"""",
        ),
        (f"<tool_call>{'[' * 9999}</tool_call>", 0, "it is nested too deeply"),
        (
            "<|tool_call_start|>[look(]",
            0,
            "what follows <|tool_call_start|> does not have the form that the chat template gives to calls",
        ),
    ],
)
def test_why_a_call_was_not_read(text, num_calls, reason):
    assert why_unread(text, num_calls=num_calls, reads_json=True) == reason


def test_a_template_with_a_form_of_its_own_is_not_blamed_for_json():
    text = "<tool_call>\n<function=look\n</tool_call>"
    assert "form that the chat template" in why_unread(text, num_calls=0, reads_json=False)


@pytest.mark.slow
def test_a_plain_function_that_does_not_return_is_named_while_the_run_waits():
    def wait() -> str:
        """Wait."""
        time.sleep(0.2)
        return "done"

    request = CallRequest(
        call=Call(name="wait", arguments={}), tools=toolbox([wait]), images=RolloutImages([]), where="a.jsonl:1, turn 2"
    )
    lines = []
    assert do_calls([request], loop=tool_loop, timeout_seconds=0.05, say=lines.append)[0].pieces == ("done",)
    assert lines == [
        "a.jsonl:1, turn 2: wait has been running for 0.05 seconds, and the run waits for it; only an `async` function "
        "is given up after this time"
    ]
    do_calls([request], loop=tool_loop, timeout_seconds=5, say=lines.append)
    assert len(lines) == 1


@pytest.mark.parametrize("given", ["[]", '""', "0", "false", '"{}"'])
def test_arguments_that_are_no_object_are_not_taken_for_none(given):
    def look(image: int = 1) -> str:
        """Look.

        Args:
            image: its number.
        """
        return f"image {image}"

    def told(text):
        (call,) = calls_of({"tool_calls": read_calls(text)})
        request = CallRequest(call=call, tools=toolbox([look]), images=RolloutImages([]), where="row 1")
        return do_calls([request], loop=tool_loop, timeout_seconds=5)[0].pieces

    wrong = f'<tool_call>{{"name": "look", "arguments": {given}}}</tool_call>'
    assert told(wrong) == ("{'error': 'the arguments of look are no JSON object'}",)
    assert told(wrong.replace(given, "null")) == told(GOOD) == ("image 1",)


def test_a_result_or_an_exception_without_words_of_its_own_is_told_as_a_failure():
    class SilentError(Exception):
        def __str__(self) -> str:
            raise ValueError("no words")

    def show(raises: bool) -> object:
        """Show.

        Args:
            raises: whether it fails.
        """
        if raises:
            raise SilentError
        return "shown"

    class Odd:
        def __str__(self) -> str:
            raise ValueError("no words")

    def odd() -> object:
        """Show."""
        return Odd()

    asked = [("show", {"raises": True}), ("odd", {})]
    requests = [
        CallRequest(
            call=Call(name=name, arguments=arguments), tools=toolbox([show, odd]), images=RolloutImages([]), where="a"
        )
        for name, arguments in asked
    ]
    silent, odd_one = do_calls(requests, loop=tool_loop, timeout_seconds=5)
    assert silent.pieces == ("{'error': 'SilentError'}",)
    assert odd_one.pieces == ("{'error': 'no words'}",)
    assert odd_one.failure == "a: odd failed, and the model was told: ValueError: no words"


def test_every_way_to_end_is_an_answer():
    async def later(how: str) -> str:
        """Answer later.

        Args:
            how: which way.
        """
        if how == "exit":
            sys.exit(3)
        if how == "cancel":
            raise asyncio.CancelledError
        return "late"

    def now(how: str) -> object:
        """Answer now.

        Args:
            how: which way.
        """
        return sys.exit("the emulator is gone") if how == "exit" else later(how)

    tools = toolbox([later, now])
    asked = [("later", "exit"), ("later", "cancel"), ("later", "well"), ("now", "exit"), ("now", "well")]
    requests = [
        CallRequest(call=Call(name=name, arguments={"how": how}), tools=tools, images=RolloutImages([]), where="row 1")
        for name, how in asked
    ]
    outcomes = do_calls(requests, loop=tool_loop, timeout_seconds=5)
    assert [one.pieces for one in outcomes] == [
        ("{'error': '3'}",),
        ("{'error': 'CancelledError'}",),
        ("late",),
        ("{'error': 'the emulator is gone'}",),
        ("late",),
    ]
    assert [one.failure is None for one in outcomes] == [False, False, True, False, True]
    assert outcomes[1].failure == "row 1: later failed, and the model was told: CancelledError: CancelledError"


async def hold(how: str) -> str:
    """Wait.

    Args:
        how: which way.
    """
    if how == "blocks":
        time.sleep(0.15)
    try:
        await asyncio.sleep(60 if how == "clings" else 0.02)
    except asyncio.CancelledError:
        await asyncio.sleep(60)
    return how


def held(*ways, seconds, say=print):
    requests = [
        CallRequest(
            call=Call(name="hold", arguments={"how": how}),
            tools=toolbox([hold]),
            images=RolloutImages([]),
            where=f"rollout {k + 1}",
        )
        for k, how in enumerate(ways)
    ]
    return [one.pieces[0] for one in do_calls(requests, loop=AsyncLoop(), timeout_seconds=seconds, say=say)]


def test_a_coroutine_that_clings_to_life_is_given_up_and_its_result_is_not_awaited():
    began = time.monotonic()
    assert held("clings", "well", seconds=0.05) == ["{'error': 'no answer within 0.05 seconds'}", "well"]
    assert time.monotonic() - began < 30


def test_a_coroutine_that_blocks_its_thread_costs_no_other_its_answer():
    assert held("blocks", "well", "well", seconds=0.1) == ["blocks", "well", "well"]


@pytest.mark.slow
def test_a_coroutine_that_blocks_its_thread_is_named_while_the_run_waits(monkeypatch):
    sleep, lines = time.sleep, []
    monkeypatch.setattr(time, "sleep", lambda _: sleep(1.5))
    assert held("well", "blocks", seconds=0.1, say=lines.append) == ["well", "blocks"]
    assert lines == [
        "rollout 2: hold is `async`, but blocks its thread instead of awaiting, so that the calls of all rollouts and "
        "the run wait for it; let it await, or make it a plain function"
    ]
