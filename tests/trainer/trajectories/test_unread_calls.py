"""Calls that cannot be read are answered with the reason, as calls that fail."""

import json

from triptych_trainer.trajectories.images import RolloutImages


def look(image: int, images: RolloutImages) -> list:
    """Look closer.

    Args:
        image: the number of an image.
    """
    return [{"type": "image", "image": images[image].picture.resize((84, 56))}]


CALL = f"<tool_call>{json.dumps({'name': 'look', 'arguments': {'image': 1}})}</tool_call>"


def test_a_call_that_cannot_be_read_is_answered_with_the_reason_and_counted_as_failed(stage_of):
    stage = stage_of(tools=[look])
    broken, cut = '<tool_call>{"name": "look"', '<tool_call>{"name": "lo...'
    scripts = [[CALL, broken, "red"], [CALL, "red"], [cut], [broken, broken, "red"]]
    first, second, third, fourth = stage.run(*scripts)
    reason = "its </tool_call> is missing"
    assert (first.unread, first.finish) == ({1: reason}, "stop")
    assert first.messages[3] == {
        "role": "tool",
        "name": "unknown",
        "content": str({"error": f"this call could not be read: {reason}"}),
    }
    assert first.messages[4]["content"] == "red"
    assert (first.num_calls, first.num_failed_calls) == (2, 1)
    assert [(one.turn, one.name, one.failed) for one in first.calls] == [(0, "look", False), (1, "", True)]
    assert first.num_trained == sum(len(stage.tokenizer(text)["input_ids"]) + 1 for text in scripts[0])
    assert (second.unread, second.num_failed_calls) == ({}, 0)
    assert (third.unread, third.finish, third.calls) == ({}, "length", ()), "the limit is the reason"
    assert (fourth.unread, fourth.num_failed_calls, fourth.finish) == ({0: reason, 1: reason}, 2, "stop")
    assert not stage.said, "a model that learns to call would fill the log; tools/unread_calls counts"


def test_a_call_that_cannot_be_read_behind_one_that_can_is_answered_after_it(stage_of):
    stage = stage_of(tools=[look])
    (rollout,) = stage.run([CALL + "<tool_call>", "red"])
    told = [message for message in rollout.messages if message["role"] == "tool"]
    assert [message["name"] for message in told] == ["look", "unknown"]
    assert len(rollout.images) == 1


def test_a_call_that_cannot_be_read_is_not_answered_after_the_largest_number_of_turns(stage_of):
    stage = stage_of(tools=[look], calling_turns=1)
    (rollout,) = stage.run([CALL, "<tool_call>"])
    assert (rollout.finish, rollout.num_calls, rollout.num_failed_calls) == ("turns", 1, 0)
    assert [one.was_done for one in rollout.calls] == [True, False]


def test_reasoning_that_speaks_of_calls_is_no_call(stage_of):
    stage = stage_of(tools=[look])
    (rollout,) = stage.run(["<think>I could write <tool_call></think>red"])
    assert (rollout.unread, rollout.finish, len(rollout.calls)) == ({}, "stop", 0)
