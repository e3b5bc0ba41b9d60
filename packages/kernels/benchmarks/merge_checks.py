"""Whether a timed row did the real work: copies to the bit, sums within the rounding of the dtype they are made in."""

import torch
import triptych_kernels as tk
from merge_cases import Batch
from merge_competitors import REFERENCES, Row

PLANS: dict[str, Row] = {
    "triptych": lambda b: b.plan.index,
    "transformers_masked_scatter": lambda b: b.mask,
    "index_copy": lambda b: b.slots,
}
"""What each row of the plan group makes out of the ids or the spans."""


def check_result(group: str, row: str, result: torch.Tensor, batch: Batch) -> None:
    """Compare a row's result with the reference; raises AssertionError.

    Plans and forward ops are the same to the bit, whoever makes them. The features' gradient sums G values: ours in
    float32, rounded once, to the bit; another row may round each of its G - 1 additions to the gradient's dtype, and so
    be off by G units of roundoff of the summed magnitudes (Higham, Accuracy and Stability of Numerical Algorithms,
    section 4.2).
    """
    if row == "copy_limit":
        return
    if group == "plan":
        # transformers' mask has a last dimension, of one or, in older versions, of the hidden size.
        made = result[..., 0] if row.startswith("transformers") else result
        assert torch.equal(made, PLANS[row](batch)), f"plan, {batch.case}, {row}: differs from the batch's own"
        return
    expected = REFERENCES[group](batch)
    name = f"{group}, {batch.case}, {row}"
    if row == "triptych" or "backward" not in group or batch.case.group == 1:
        assert torch.equal(result, expected), f"{name}: differs from the reference"
        return
    magnitude_ND = tk.reference.features_grad(batch.grad.abs().float(), batch.plan)
    roundoff = torch.finfo(batch.case.dtype).eps / 2
    excess = (result.float() - expected.float()).abs() - batch.case.group * roundoff * magnitude_ND
    worst = int(excess.argmax())
    assert excess.flatten()[worst] <= 0, (
        f"{name}: {result.flatten()[worst]:.6g} instead of {expected.flatten()[worst]:.6g} at element {worst}, "
        f"more than rounding {batch.case.group} summands of magnitude {magnitude_ND.flatten()[worst]:.6g} can explain"
    )
