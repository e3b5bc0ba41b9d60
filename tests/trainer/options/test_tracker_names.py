"""The words of `--report_to`, which are looked at before transformers is imported."""

import pytest
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from triptych_trainer.errors import UsageError
from triptych_trainer.options.tracker_names import NAMES, check_tracker_names

WRONG = {
    "tensorbord": "--report_to expects some of all, none, azure_ml, .*, got 'tensorbord'; did you mean tensorboard?",
    "tensorboard none": "--report_to tensorboard none: none excludes other names; write none or tensorboard",
    "all wandb trackio": "--report_to all wandb trackio: all excludes other names; write all or wandb trackio",
    "wandb wandb": "--report_to wandb wandb: wandb is there twice; leave one out",
}


def test_every_tracker_of_transformers_is_known():
    assert set(INTEGRATION_TO_CALLBACK) <= set(NAMES)
    check_tracker_names(list(NAMES))


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words_are_one_sentence(words):
    with pytest.raises(UsageError) as refused:
        check_tracker_names(words.split())
    first, _, last = WRONG[words].partition(".*")
    assert str(refused.value).startswith(first)
    assert str(refused.value).endswith(last)
