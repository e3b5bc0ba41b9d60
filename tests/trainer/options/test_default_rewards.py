"""Without `--reward`, an environment that says what a rollout was worth is enough."""

import pytest
from triptych_trainer.cli import main as triptych
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.conversations import with_environment_reward
from triptych_trainer.monitor.run_record import write_command
from triptych_trainer.options.default_rewards import DefaultRewards
from triptych_trainer.trajectories.environments import Environments

CODE = '''
class Lamp:
    def reset(self, **row):
        return "Press."

    def press(self):
        """Press."""

    def get_reward(self):
        return 1.0
'''


def test_rows_of_an_environment_need_no_answer_for_rewards_that_nobody_named(tmp_path, capsys):
    code, rows = tmp_path / "lamp.py", tmp_path / "rows.jsonl"
    code.write_text(CODE)
    rows.write_text('{"id": 1, "prompt": [{"role": "user", "content": "Light it ."}]}\n')
    words = ["check", str(rows), "--environment", f"{code}:Lamp"]
    assert triptych(words) == 0
    capsys.readouterr()
    assert triptych([*words, "--reward", "accuracy"]) == 1
    assert "answer" in capsys.readouterr().out


def test_a_default_is_written_down_like_any_list(tmp_path):
    write_command(tmp_path, ["triptych"], {"reward": DefaultRewards(["format"])}, data=[])
    assert (tmp_path / "config.yaml").read_text() == "reward:\n- format\n"


def test_an_environment_without_a_reward_and_no_reward_function_is_refused():
    class Silent:
        def reset(self, **row): ...

    with pytest.raises(
        UsageError, match=r"^--reward: nothing says what a rollout was worth: Silent has no `get_reward`"
    ):
        with_environment_reward(None, [], Environments(Silent))
