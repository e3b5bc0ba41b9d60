"""The environment of docs/environments.md is played as it stands."""

import json
import re
from pathlib import Path

from triptych_trainer.trajectories.environments import Environments

PAGE = (Path(__file__).parents[3] / "docs" / "environments.md").read_text(encoding="utf-8")


def test_the_environment_of_the_page_can_be_played():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(code, "environments.md", "exec"), scope)
    environments = Environments(scope["Counter"])
    (one,) = environments.take(1)
    assert list(environments.tools(one)) == ["press"]
    text, dark = environments.reset([one], {"presses": 2, "answer": ""}, where="row 1")
    assert text == "Press 2 times."
    one.press()
    assert not one.done
    (last,) = one.press()
    assert one.done
    assert one.get_reward() == 1.0
    assert last["image"].tobytes() != dark.tobytes()


def test_the_rows_of_the_page_have_the_columns_that_it_names():
    rows = [json.loads(row) for row in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert [sorted(row.keys() - {"id", "prompt"}) for row in rows] == [["env_id", "seed"], ["seed", "task"]]
