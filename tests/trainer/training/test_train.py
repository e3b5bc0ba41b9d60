"""The end of a run: the model is saved before any page, and what only shows the run cannot end it."""

import errno
import warnings

import pytest
from triptych_trainer.commands.train import main
from triptych_trainer.rollouts.write import RolloutWriter
from triptych_trainer.training import fresh_report


@pytest.fixture
def run(model_dir, write_rows, tmp_path):
    """Train two steps by the command; returns its exit code."""
    rows = write_rows([0, 1])

    def go():
        return main(
            [
                *("--model_name_or_path", str(model_dir), "--data", str(rows), "--output_dir", str(tmp_path / "out")),
                *("--reward", "format", "--num_generations", "2", "--per_device_train_batch_size", "4"),
                *("--max_completion_length", "4", "--max_steps", "2", "--memory_forecast", "false"),
            ]
        )

    return go


def warned(run, name):
    """The warnings about ``name`` of a run that ends well."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run() == 0
    return [str(warning.message) for warning in caught if name in str(warning.message)]


@pytest.mark.slow
def test_the_model_is_saved_before_the_page_and_a_page_that_fails_is_one_warning(run, tmp_path, monkeypatch):
    saved = []

    def broken(folder):
        saved.append((folder / "model.safetensors").is_file())
        raise ZeroDivisionError("a fault of the page")

    monkeypatch.setattr(fresh_report, "build_report", broken)
    monkeypatch.setattr(fresh_report, "REPORT_EVERY_SECONDS", -1.0)  # also after each step
    monkeypatch.setattr(fresh_report.FreshReport, "on_step_end", lambda self, *arguments, **options: self.build())
    said = warned(run, "report.html")
    assert saved == [False, False, True]
    assert said == [
        f"{tmp_path / 'out' / 'report.html'} cannot be written (ZeroDivisionError: a fault of the page); "
        f"the run goes on, and `triptych report {tmp_path / 'out'}` builds the page later"
    ]


@pytest.mark.slow
def test_a_page_that_the_disk_does_not_take_leaves_the_model(run, tmp_path):
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    (said,) = warned(run, "report.html")
    assert "report.html cannot be written (IsADirectoryError" in said
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.slow
def test_rollouts_that_the_disk_does_not_take_are_one_warning(run, tmp_path, monkeypatch):
    def full(self, groups):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RolloutWriter, "write", full)
    (said,) = warned(run, "rollouts")
    assert said.startswith(
        f"the rollouts of step 0 cannot be written to {tmp_path / 'out' / 'rollouts'} ([Errno 28] No "
    )
    assert (tmp_path / "out" / "model.safetensors").is_file()
