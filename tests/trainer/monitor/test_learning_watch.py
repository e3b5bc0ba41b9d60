"""A run that cannot learn is warned of in the terminal, in the trackers, in the run's record and in its report."""

import json
import warnings

import pytest
from triptych_trainer.report import build_report
from triptych_trainer.rollouts.write import RolloutWriter

ONE_STEP = {"per_device_train_batch_size": 4, "shuffle_dataset": False}


class Board:
    """What TensorBoard's writer is told as text."""

    def __init__(self):
        self.texts = []

    def add_text(self, tag, text, step=None):
        if tag == "warning":
            self.texts.append((text, step))

    def __getattr__(self, name):
        return lambda *arguments, **options: None


def constant(completions, **_):
    return [0.5] * len(completions)


def by_first_token(completion_ids, **_):
    return [float(ids[0] % 7) for ids in completion_ids]


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-30, 1e-4])
def test_a_rate_that_changes_no_weight_is_said(rate, make_trainer, write_rows):
    trainer = make_trainer(
        write_rows([1, 1]), rewards=[by_first_token], **ONE_STEP, max_steps=3, save_strategy="no", warn_after_steps=3,
        learning_rate=rate,
    )  # fmt: skip
    with pytest.warns(RuntimeWarning, match="in the steps 1 to 3") as caught:
        trainer.train()
    text = " ".join(str(warning.message) for warning in caught)
    assert ("an update changed 0 of " in text) == (rate == 1e-30)
    assert trainer.learning.standstill.last_update.num_weights > 200


@pytest.mark.slow
def test_a_reward_that_is_always_the_same_is_said_once_everywhere(make_trainer, write_rows, tmp_path):
    from transformers.integrations import TensorBoardCallback

    out = tmp_path / "out"
    writer = RolloutWriter(out)
    trainer = make_trainer(
        write_rows([0, 0]), rewards=[constant], **ONE_STEP, max_steps=3, save_strategy="steps", save_steps=3,
        warn_after_steps=2, on_rollouts=writer.record,
    )  # fmt: skip
    (out / "run.json").write_text("{}")
    trainer.args.report_to = ["tensorboard"]
    board = Board()
    trainer.add_callback(TensorBoardCallback(tb_writer=board))
    with pytest.warns(RuntimeWarning, match="in the steps 1 to 2") as caught:
        trainer.train()
    (text,) = [str(warning.message) for warning in caught if "Likely cause" in str(warning.message)]
    assert "every completion was cut at the limit of 6 tokens" in text
    assert "reward constant was 0.5 for every completion" in text
    assert "in every group all completions earned the same reward" in text
    assert "the norm of the gradient was 0" in text
    assert board.texts == [(text, 2)]
    assert json.loads((out / "run.json").read_text())["warnings"] == {"2": text}
    assert '<p class="warned" role="note">Warning: in the steps 1 to 2' in build_report(out).read_text()
    assert trainer.learning.standstill.said == {"cut", "constant constant", "dead", "gradient"}
    again = make_trainer(
        write_rows([0, 0]), rewards=[constant], **ONE_STEP, max_steps=4, warn_after_steps=2, save_strategy="no"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        again.train(resume_from_checkpoint=str(out / "checkpoint-3"))
    assert again.state.global_step == 4, "one step more is too few to say anything"
