"""The example of docs/trajectories.md is run as it stands."""

import json
import re
from pathlib import Path

DOCS = Path(__file__).parents[3] / "docs" / "trajectories.md"


def test_the_tool_of_the_docs_returns_the_left_half(stage_of):
    code, *_ = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, str(DOCS), "exec"), scope)
    stage = stage_of(tools=[scope["left_half"]])
    (rollout,) = stage.run(
        [f"<tool_call>{json.dumps({'name': 'left_half', 'arguments': {'image': 1}})}</tool_call>", "red"]
    )
    assert "Its left half:" in stage.text(rollout)
    assert rollout.messages[1]["content"][1]["image"].size == (28, 56)
    assert rollout.num_failed_calls == 0
