"""Whether a timed row did the real work: copies to the bit, sums within the rounding of the dtype they are made in."""

import torch
import triptych_kernels as tk
from merge_cases import Batch
from merge_competitors import REFERENCES, Row, Tensors

PLANS: dict[str, Row] = {
    "triptych": lambda b: (b.plan.index,),
    "transformers_masked_scatter": lambda b: (b.mask,),
    "index_copy": lambda b: (b.slots,),
}
"""What each row of the plan group makes out of the ids or the places."""


def check_result(group: str, row: str, result: Tensors, batch: Batch) -> None:
    """Compare a row's result with the reference; raises AssertionError.

    Plans, forward ops and the embedded rows' gradients are the same to the bit, whoever makes them. The features'
    gradient, the first tensor of its groups, sums G values: ours in float32, rounded once, to the bit.
    """
    if row == "copy_limit":
        return
    name = f"{group}, {batch.case}, {row}"
    if group == "plan":
        # transformers' mask has a last dimension, of one or, in older versions, of the hidden size.
        made = result[0][..., 0] if row.startswith("transformers") else result[0]
        assert torch.equal(made, PLANS[row](batch)[0]), f"{name}: differs from the batch's own"
        return
    for k, (got, expected) in enumerate(zip(result, REFERENCES[group](batch), strict=True)):
        sums = k == 0 and "backward" in group and group != "text-backward"
        if sums and row != "triptych" and batch.case.group > 1:
            check_sums(name, got, expected, batch)
        else:
            assert torch.equal(got, expected), f"{name}: differs from the reference"


def check_sums(name: str, got_ND: torch.Tensor, expected_ND: torch.Tensor, batch: Batch) -> None:
    """Allow a row to round each of its G - 1 additions to the gradient's dtype.

    It may then be off by G units of roundoff of the summed magnitudes (Higham, Accuracy and Stability of Numerical
    Algorithms, section 4.2).
    """
    magnitude_ND = tk.reference.features_grad(batch.grad.abs().float(), batch.plan)
    roundoff = torch.finfo(batch.case.dtype).eps / 2
    excess = (got_ND.float() - expected_ND.float()).abs() - batch.case.group * roundoff * magnitude_ND
    worst = int(excess.argmax())
    assert excess.flatten()[worst] <= 0, (
        f"{name}: {got_ND.flatten()[worst]:.6g} instead of {expected_ND.flatten()[worst]:.6g} at element {worst}, "
        f"more than rounding {batch.case.group} summands of magnitude {magnitude_ND.flatten()[worst]:.6g} can explain"
    )
