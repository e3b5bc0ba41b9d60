"""A tracker that fails is switched off with one warning, and the run goes on."""

import json

import pytest
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback
from triptych_trainer.monitor.tracker_guard import guard_trackers, tracker_in


class FailingWriter:
    """A TensorBoard writer whose disk is full."""

    def __init__(self):
        self.num_calls = 0

    def __getattr__(self, name):
        def fail(*arguments, **options):
            self.num_calls += 1
            raise OSError("No space left\x1b[2J on device")

        return fail


@pytest.mark.slow
def test_a_tracker_that_fails_in_mid_run_is_switched_off_and_the_run_ends_well(make_trainer, write_rows):
    trainer = make_trainer(write_rows([0, 1]), per_device_train_batch_size=4, max_steps=2)
    board = TensorBoardCallback(tb_writer=FailingWriter())
    trainer.add_callback(board)
    guard_trackers(trainer)
    with pytest.warns(RuntimeWarning, match="the tracker TensorBoard failed and is switched off") as caught:
        trainer.train()
    ours = [str(warning.message) for warning in caught if "tracker" in str(warning.message)]
    assert ours == [
        "the tracker TensorBoard failed and is switched off for the rest of the run (OSError: No space left\\x1b[2J on "
        "device); trainer_state.json still gets the whole log"
    ]
    assert board.tb_writer.num_calls == 1, "it is called no more"
    assert isinstance(board, TensorBoardCallback)
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [1, 2]


def test_a_callback_of_the_user_is_no_tracker(make_trainer, write_rows):
    class Mine(TrainerCallback):
        def on_log(self, *arguments, **options):
            raise ZeroDivisionError("mine")

    trainer = make_trainer(write_rows([0, 1]), per_device_train_batch_size=4, max_steps=1)
    trainer.add_callback(Mine())
    guard_trackers(trainer)
    with pytest.raises(ZeroDivisionError, match="mine"):
        trainer.train()


def test_a_tracker_that_trl_itself_calls_is_known_by_where_the_error_was_raised(make_trainer, write_rows, monkeypatch):
    trainer = make_trainer(write_rows([0, 1]), per_device_train_batch_size=4, max_steps=1)
    trainer.args.report_to = ["json"]
    monkeypatch.setattr("trl.GRPOTrainer.log", lambda self, *arguments: json.loads("{"))
    with pytest.warns(RuntimeWarning, match="the tracker json failed and is switched off .*JSONDecodeError"):
        trainer.log({})
    assert trainer.args.report_to == []
    with pytest.raises(json.JSONDecodeError):
        trainer.log({})


def test_where_an_error_was_raised():
    with pytest.raises(ValueError, match="Expecting property name") as caught:
        json.loads("{")
    assert tracker_in(caught.value, ["wandb", "json"]) == "json"
    assert tracker_in(caught.value, ["wandb"]) is None
    assert tracker_in(ValueError("raised nowhere"), ["json"]) is None
