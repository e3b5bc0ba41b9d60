"""A chat template that keeps the earlier turns of its first conversations, and rewrites those of a longer one."""

import json

import pytest
from triptych_trainer.errors import UsageError


def wait() -> str:
    """Wait."""
    return "later"


def test_a_template_that_rewrites_earlier_turns_later_is_refused_at_that_turn(stage_of):
    stage = stage_of(tools=[wait])
    processor = stage.play.writers[None].processor
    begins = "{%- for message in messages -%}"
    later = begins + "{%- if loop.first and messages | length > 6 -%}A long talk.{%- endif -%}"
    assert processor.chat_template.count(begins) == 1
    processor.chat_template = processor.chat_template.replace(begins, later)
    assert stage.play.writers[None].check() is None, "two turns of results show nothing of it"
    call = f"<tool_call>{json.dumps({'name': 'wait'})}</tool_call>"
    (rollout,) = stage.run([call, call, "red"])
    assert rollout.finish == "stop"
    with pytest.raises(UsageError, match=r"rollout 1, turn 3: the chat template writes the earlier messages different"):
        stage.run([call, call, call, "red"])
