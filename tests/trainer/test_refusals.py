"""Options that cannot hold are refused in one sentence that says what to set instead."""

import pytest
from triptych_trainer.arguments import UsageError
from triptych_trainer.refusals import check_router_loss


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataloader_num_workers": 2}, "dataloader_num_workers 2: .* set --image_threads"),
        ({"use_transformers_continuous_batching": True}, "continuous_batching: .* without images"),
        ({"cache_implementation": "static"}, "cache_implementation static: .* leave it out"),
    ],
)
def test_options_are_refused(make_trainer, write_rows, options, message):
    with pytest.raises(UsageError, match=message):
        make_trainer(write_rows([1, 2]), **options)


def test_the_load_balancing_loss_is_refused():
    check_router_loss(enabled=False, coefficient=0.0, model_name="Dense")
    with pytest.raises(UsageError, match=r"Experts asks for .* 0\.001.*set --router_aux_loss_coef 0"):
        check_router_loss(enabled=True, coefficient=0.001, model_name="Experts")
