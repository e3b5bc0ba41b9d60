"""The seams to TRL: this test fails when upstream moves."""

import pytest
from triptych_trainer.errors import SeamError
from triptych_trainer.grpo.trl.seams import SEAMS, check_seams
from trl import GRPOTrainer


def test_the_installed_trl_has_every_seam():
    check_seams()


def test_every_override_of_the_trainer_is_checked():
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

    overridden = {name for name in vars(MultiImageGRPOTrainer) if hasattr(GRPOTrainer, name) and name in SEAMS}
    private = {
        name
        for name in vars(MultiImageGRPOTrainer)
        if name.startswith("_") and not name.startswith("__") and name in vars(GRPOTrainer)
    }
    assert private <= overridden


def test_a_moved_seam_is_named_with_both_signatures():
    class Moved(GRPOTrainer):
        def _compute_loss(self, model, inputs_of_step):
            pass

    with pytest.raises(SeamError, match=r"_compute_loss of trl .*inputs.*inputs_of_step.*Tested with trl 1\.16"):
        check_seams(Moved)


def test_a_lost_seam_is_named():
    class Lost:
        pass

    with pytest.raises(SeamError, match="it is gone"):
        check_seams(Lost)
