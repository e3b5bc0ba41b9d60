"""Pay for a prompt once: one forward and backward per prompt for all of its completions.

Recipe (all functions are free of TRL; `model` is the policy as the loop calls it, wrappers included):

    family = prepare(model)                             # once, after PEFT, before DDP/FSDP wrapping; patches reversibly
    images = family.preprocess(processor.image_processor, pictures)     # per prompt: one mapping per image
    batch = GroupBatch.build(prompt_ids, spans=spans, images=all_images, completions=completions)   # ragged lists

    groups = shared_generate(model, batch, num_generations=G, generation_config=config)   # [P][G] lists of ids
    logps, entropies = shared_logps(model, batch.with_completions(groups), temperature=T, compute_entropy=True)
    loss = grpo(logps, ...); loss.backward()            # [num_completions, C], rows prompt-major, zero behind each end

- `image_indices[p][span.image]` says which of the batch's unique images a span shows; left out, they go in order.
- Micro-batches of whole prompts: `part, kept = batch.select(range(2, 4))`, and `features.select(kept)` with them.
- No-grad passes (old policy, reference) and frozen towers: `features = encode_images(model, batch.images)` once, then
  `shared_logps(..., features=features)` in every pass. A trainable tower: leave `features=None` in the policy pass;
  it then runs inside the wrapped model's forward, as DDP, FSDP and ZeRO need.
- `checked = CheckedLogps()` once per trainer, then `checked(model, batch, ...)` for `shared_logps`: the first call
  for a model compares both passes on a small sample (all ranks decide together) and falls back with one warning.
- `plain_logps` takes the same arguments and replicates rows: the oracle and the fallback (`family.path == "plain"`).
- `fused_lm_head=True` scores through TRL's `add_fused_lm_head` forward (worth it on CUDA: no logits in memory; on
  the CPU that forward projects every position, so leave it off). Temperature and outputs are fixed when it is added.
- Completions that do not fit into memory at once: `two_phase_backward(model, batch, loss_of=..., rows_per_slice=8)`,
  or `sliced_logps(model, batch, rows_per_slice=8)` where the loss needs all of them at once.
- Gradient checkpointing (either mode), autocast, LoRA and `disable_adapter()` work as around any other forward.
- A trainable or sharded tower also runs (on a dummy image) in passes without any image, so that ranks stay in step.
- `restore(model)` removes the hooks again.
"""

from triptych_trainer.forward.attention import IMPLEMENTATION, register_attention
from triptych_trainer.forward.batch import BatchError, CompletionImage, GroupBatch
from triptych_trainer.forward.cache_pass import cached_logps, two_phase_backward
from triptych_trainer.forward.choose import sharing_path, sharing_path_and_reason
from triptych_trainer.forward.encode import encode_images
from triptych_trainer.forward.generate import shared_generate
from triptych_trainer.forward.hooks import is_prepared, prepare, restore
from triptych_trainer.forward.logps import plain_logps, shared_logps
from triptych_trainer.forward.passes import PASS_KWARG
from triptych_trainer.forward.scoring import token_logps
from triptych_trainer.forward.sliced import sliced_logps
from triptych_trainer.forward.verify import Agreement, CheckedLogps, SharingWarning, compare
from triptych_trainer.models.families import ImageFeatures, ImageInputs

__all__ = [
    "IMPLEMENTATION",
    "PASS_KWARG",
    "Agreement",
    "BatchError",
    "CheckedLogps",
    "CompletionImage",
    "GroupBatch",
    "ImageFeatures",
    "ImageInputs",
    "SharingWarning",
    "cached_logps",
    "compare",
    "encode_images",
    "is_prepared",
    "plain_logps",
    "prepare",
    "register_attention",
    "restore",
    "shared_generate",
    "shared_logps",
    "sharing_path",
    "sharing_path_and_reason",
    "sliced_logps",
    "token_logps",
    "two_phase_backward",
]
