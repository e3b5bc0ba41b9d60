"""Rollouts of several turns: what is put behind what, what arrives where, and how they end."""

import asyncio
import json

import pytest
from PIL import Image
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.trajectories.images import RolloutImages
from triptych_trainer.trajectories.writer import TurnWriter


def call(name, **arguments):
    """A message that calls a tool."""
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def picture(colour, size=(56, 56)):
    return Image.new("RGB", size, colour)


def look(image: int | str, images: RolloutImages) -> list:
    """Look closer.

    Args:
        image: the number of an image.
    """
    shown = images[image].picture.resize((84, 56))
    return [{"type": "text", "text": "closer: "}, {"type": "image", "image": shown}]


def test_tokens_are_concatenated_and_images_stand_where_they_arrived(stage_of):
    stage = stage_of(tools=[look])
    both = [call("look", image=1), call("look", image=2), "red"]
    first, second = stage.run(both, ["blue"])
    assert [message["role"] for message in first.messages] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert (first.finish, second.finish) == ("stop", "stop")
    assert (first.num_calls, first.num_failed_calls, second.num_calls) == (2, 0, 0)
    pads = "<|vision_start|>" + "<|image_pad|>" * 6 + "<|vision_end|>"
    response = f"<|im_end|>\n<|im_start|>user\n<tool_response>\ncloser: {pads}\n</tool_response><|im_end|>\n"
    response += "<|im_start|>assistant\n"
    assert stage.text(first) == f"{both[0]}{response}{both[1]}{response}red<|im_end|>"
    sampled = [token for token, counts in zip(first.ids, first.trained, strict=True) if counts]
    assert stage.tokenizer.decode(sampled) == f"{both[0]}<|im_end|>{both[1]}<|im_end|>red<|im_end|>"
    assert [(image.turn, image.owner, image.rollout) for image in first.images] == [(0, "look", 0), (1, "look", 0)]
    pad = stage.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    for image in first.images:
        ((start, length),) = image.span.runs
        assert first.ids[start : start + length] == (pad,) * 6
    assert first.images[0].digest == first.images[1].digest, "the second look was at a picture of the same pixels"
    batch = group_batch([stage.group])
    assert len(batch.images) == 2, "the prompt's image, and the closer look once"


def test_what_goes_on_is_the_prompt_with_all_that_followed(stage_of):
    stage = stage_of(tools=[look])
    (rollout,) = stage.run([call("look", image=1), "red"])
    (asked,) = stage.asked
    prompt = stage.groups[0].prompt
    later = len(asked.prompt.ids) - len(prompt.ids)
    assert asked.prompt.ids == [*prompt.ids, *rollout.ids[:later]]
    assert not any(rollout.trained[rollout.trained.index(False) : later])
    assert all(rollout.trained[later:])
    batch = group_batch([asked])
    assert [batch.image_indices[0][span.image] for span in batch.spans[0]] == [0, 1]
    assert sum(span.num_features for span in batch.spans[0]) == 4 + 6


def test_a_result_that_does_not_fit_is_left_out_whole_and_the_rollout_says_so(stage_of):
    script = [call("look", image=1), call("look", image=1), "red"]
    (whole,) = stage_of(tools=[look]).run(script)
    result = whole.trained.count(False) // 2
    stage = stage_of(tools=[look], completion_tokens=len(whole.ids) - result)
    (rollout,) = stage.run(script)
    assert rollout.finish == "room"
    assert rollout.was_cut
    assert len(rollout.images) == 1
    assert [message["role"] for message in rollout.messages] == ["assistant", "tool", "assistant"]
    assert rollout.trained[-1], "nothing of the second result is there"
    stage = stage_of(tools=[look], context_tokens=len(stage.groups[0].prompt.ids) + 90)
    (rollout,) = stage.run([call("look", image=1), "red"])
    assert (rollout.finish, rollout.images) == ("room", ())


def test_turns_are_limited_and_unfinished_messages_call_nothing(stage_of):
    stage = stage_of(tools=[look], calling_turns=1)
    first, second = stage.run([call("look", image=1), call("look", image=1)], [f"{call('look', image=1)}..."])
    assert (first.finish, first.num_calls, second.finish, second.num_calls) == ("turns", 1, "length", 0)


def test_with_last_k_each_turn_is_a_sample_behind_the_last_images(stage_of):
    stage = stage_of(tools=[look], kept_images=1)
    script = [call("look", image=1), call("look", image=2), "red"]
    (rollout,) = stage.run(script)
    assert len(rollout.images) == 2, "the rollout itself holds all of them, for rewards and reports"
    first, second, third = rollout.steps
    pads = "<|vision_start|>" + "<|image_pad|>" * 6 + "<|vision_end|>"
    stub = "(image 2, no longer shown)"

    def response(shown):
        opened = f"<|im_end|>\n<|im_start|>user\n<tool_response>\ncloser: {shown}\n</tool_response><|im_end|>\n"
        return f"{opened}<|im_start|>assistant\n"

    assert stage.text(first) == f"{script[0]}<|im_end|>"
    assert stage.text(second) == f"{script[0]}{response(pads)}{script[1]}<|im_end|>"
    assert stage.text(third) == f"{script[0]}{response(stub)}{script[1]}{response(pads)}red<|im_end|>"
    sampled = [token for token, counts in zip(third.ids, third.trained, strict=True) if counts]
    assert stage.tokenizer.decode(sampled) == "red<|im_end|>"
    assert [len(step.images) for step in rollout.steps] == [0, 1, 1]
    assert [step.trajectory for step in rollout.steps] == [0, 0, 0]
    pad = stage.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    for step in (second, third):
        ((start, length),) = step.images[0].span.runs
        assert step.ids[start : start + length] == (pad,) * 6
    (asked,) = stage.asked
    before = len(third.ids) - len(sampled)
    assert asked.prompt.ids == [*stage.groups[0].prompt.ids, *third.ids[:before]], "it was sampled from that"
    batch = group_batch([stage.group.with_rollouts(rollout.steps)])
    assert batch.group_sizes == (3,), "all steps share the prompt"
    assert len(batch.images) == 2


def test_a_tool_that_fails_tells_the_model_and_the_log(stage_of):
    def boom(text: str) -> str:
        """Fail.

        Args:
            text: anything.
        """
        raise RuntimeError(f"no {text}")

    stage = stage_of(tools=[look, boom])
    script = [
        f"{call('boom', text='luck')}{call('fly')}{call('look', image=9)}{call('boom', mood=1)}",
        "red",
    ]
    (rollout,) = stage.run(script)
    told = [message["content"] for message in rollout.messages if message["role"] == "tool"]
    assert told[:3] == [
        "{'error': 'no luck'}",
        str({"error": "there is no tool 'fly'; the tools are look, boom"}),
        "{'error': 'there is no image 9; there are images 1 to 1'}",
    ]
    assert "unexpected keyword argument 'mood'" in told[3]
    assert rollout.num_failed_calls == 4
    assert "row-0, rollout 1, turn 1: boom failed, and the model was told: RuntimeError: no luck" in stage.said[0]
    assert rollout.finish == "stop"


def test_awaited_tools_of_all_rollouts_run_side_by_side_and_are_given_up_in_time(stage_of):
    running, most = 0, 0

    async def wait(seconds: float) -> str:
        """Wait.

        Args:
            seconds: how long.
        """
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(seconds)
        running -= 1
        return "done"

    stage = stage_of(tools=[wait], tool_seconds=0.2)
    scripts = [[call("wait", seconds=0.05), "a"], [call("wait", seconds=0.05), "b"], [call("wait", seconds=60), "c"]]
    rollouts = stage.run(*scripts)
    assert most == 3
    assert [one.messages[1]["content"] for one in rollouts] == [
        *["done"] * 2,
        "{'error': 'no answer within 0.2 seconds'}",
    ]
    assert "rollout 3, turn 1: wait failed" in stage.said[0]


def test_a_wrong_number_of_feature_rows_is_one_sentence(stage_of):
    stage = stage_of(tools=[look], num_rows=lambda inputs: 5)
    with pytest.raises(UsageError, match=r"rollout 1, turn 1, image 1 of `look`: 6 slots, 5 features; the processor"):
        stage.run([call("look", image=1), "red"])


def test_a_tool_that_returns_no_image_where_it_says_so_is_refused(stage_of):
    def show() -> list:
        """Show."""
        return [{"type": "text", "text": "here"}, {"type": "image", "image": "picture.png"}]

    stage = stage_of(tools=[show])
    with pytest.raises(
        UsageError, match=r"rollout 1, turn 1: show: part 2 of what it returned is of type 'image', neither text nor"
    ):
        stage.run([call("show"), "red"])


def test_an_image_that_cannot_be_used_is_named_by_rollout_turn_number_and_tool(stage_of):
    def show(side: int) -> list:
        """Show.

        Args:
            side: how large.
        """
        return [{"type": "image", "image": picture("red", (56, size))} for size in (56, side)]

    stage = stage_of(tools=[show])
    script = [call("show", side=28), call("show", side=0), call("show", side=3), "red"]
    _, rollout = stage.run(["blue"], script)
    assert rollout.finish == "stop"
    assert [image.turn for image in rollout.images] == [0, 0, 2, 2], "nothing of the second turn is shown"
    told = [message["content"] for message in rollout.messages if message["role"] == "tool"]
    assert told[1] == "{'error': 'an image of show cannot be shown'}"
    assert rollout.num_failed_calls == 1
    (line,) = stage.said
    assert "row-0, rollout 2, turn 2, image 2 of `show` (56 x 0 pixels) cannot be used: " in line
    assert line.endswith("; return another image, or text")


def test_text_of_a_tool_that_looks_like_a_special_token_stays_text(stage_of):
    def shout() -> str:
        """Shout."""
        return "<|im_end|><|image_pad|>"

    stage = stage_of(tools=[shout])
    (rollout,) = stage.run([call("shout"), "red"])
    ends = stage.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|image_pad|>"])
    assert [rollout.ids.count(token) for token in ends] == [3, 0], "two messages of the model and one of the tool"
    assert "<|im_end|><|image_pad|>" in stage.text(rollout)


def test_half_a_character_in_a_call_ends_no_run(stage_of):
    def say(text: str) -> str:
        """Say.

        Args:
            text: anything.
        """
        raise ValueError(f"not {text}")

    stage = stage_of(tools=[say])
    (rollout,) = stage.run(['<tool_call>{"name": "say", "arguments": {"text": "\\ud800"}}</tool_call>', "red"])
    assert rollout.messages[1]["content"] == "{'error': 'not \ufffd'}"
    assert rollout.calls[0].arguments == {"text": "\ufffd"}
    (rollout,) = stage.run(['<tool_call>{"name": "\\udfff"}</tool_call>', "red"])
    assert rollout.calls[0].name == "\ufffd"


def test_a_canvas_that_is_painted_on_again_changes_no_earlier_image(stage_of):
    canvas = picture("white")

    def paint(images: RolloutImages) -> Image.Image:
        """Paint."""
        images[1].picture.paste("black", (0, 0, 56, 56))
        left = len(images) * 8
        canvas.paste("red", (0, 0, left, left))
        return canvas

    stage = stage_of(tools=[paint])
    (before,) = stage.play.preparer.loader.get(stage.groups[0].prompt.example)
    before = before.copy()
    (rollout,) = stage.run([call("paint"), call("paint"), "red"])
    shown = [part["image"] for message in rollout.messages if message["role"] == "tool" for part in message["content"]]
    assert [image.getpixel((10, 10)) for image in shown] == [(255, 255, 255), (255, 0, 0)]
    assert rollout.images[0].digest != rollout.images[1].digest
    (after,) = stage.play.preparer.loader.get(stage.groups[0].prompt.example)
    assert after.tobytes() == before.tobytes(), "what a tool paints on an image of the prompt, it paints on a copy"


def test_results_of_the_same_form_are_written_once_and_others_again(stage_of, monkeypatch):
    cuts, real = [], TurnWriter._cut
    monkeypatch.setattr(
        TurnWriter, "_cut", lambda self, before, results: cuts.append(results) or real(self, before, results)
    )

    def look(side: int) -> list:
        """Look.

        Args:
            side: how large.
        """
        return [{"type": "image", "image": Image.new("RGB", (28 * side, 28), (side, len(cuts), 9))}]

    stage = stage_of(tools=[look])
    del cuts[:]
    first, second, third = stage.run(*([call("look", side=side), "red"] for side in (2, 2, 3)))
    assert len(cuts) == 2
    assert first.ids[: len(second.ids)] == second.ids
    assert first.images[0].span == second.images[0].span
    assert third.images[0].span.num_features == 3
