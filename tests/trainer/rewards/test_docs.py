"""docs/rewards.md: its examples run, its tables are complete."""

import inspect
import re
from pathlib import Path

from triptych_trainer.grpo.rewarding import TAKEN
from triptych_trainer.rewards import KNOWN_REWARDS
from triptych_trainer.rewards.correctness import LISTED, MODES, PLACED, SYNONYMS
from triptych_trainer.rewards.frames import FRAMES

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "rewards.md").read_text(encoding="utf-8")


def test_the_examples_run_in_order():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 5
    exec(compile("\n".join(blocks), "docs/rewards.md", "exec"), {})


def test_the_table_names_every_reward_and_every_option():
    for name, build in KNOWN_REWARDS.items():
        line = re.findall(rf"^\| `{name}` \|.*$", PAGE, re.MULTILINE)[0]
        for option in inspect.signature(build).parameters:
            assert f"`{option}`" in line, f"{name}: {option}"


def test_every_method_of_accuracy_is_named():
    for method in (*MODES, *PLACED, *LISTED, *SYNONYMS, "judge"):
        assert f"`{method}`" in PAGE, method


def test_every_frame_is_named():
    for frame in FRAMES:
        assert re.search(rf"^\| `{frame}` \|", PAGE, re.MULTILINE), frame


def test_every_argument_of_a_reward_is_named():
    for name in set(TAKEN) - {"environments", "log_extra", "log_metric", "trainer_state"}:
        assert f"`{name}`" in PAGE, name
