"""The passes over prompt groups: one forward and one backward per prompt for all of its completions.

How the functions fit together (none of them knows TRL; `model` is the policy as the training loop calls it, with its
wrappers):

    family = install_hooks(model)     # once, after PEFT and before DDP or FSDP wrap the model; `remove_hooks` undoes it
    images = family.preprocess(processor.image_processor, pictures)      # for each prompt: one mapping per image
    batch = GroupBatch.build(prompt_ids, spans=spans, images=all_images)  # ragged lists, no padding

    groups = shared_generate(model, batch, num_generations=G, generation_config=config)   # [P][G] lists of token ids
    logps_BC, entropies_BC = shared_logps(model, batch.with_completions(groups), temperature=T, compute_entropy=True)
    loss = grpo(logps_BC, ...); loss.backward()          # rows are prompt-major, and zero after each completion's end

- `image_indices[p][span.image]` says which of the batch's unique images a span shows. Without it, images are taken in
  order.
- `batch.select(range(2, 4))` gives a micro-batch of whole prompts and the images that it keeps, for `features.select`.
- A pass without gradient, or a frozen tower, takes features that were computed once: `encode_images(model,
  batch.images)`. The policy pass of a trainable tower takes `features=None`: the tower then runs inside the forward of
  the wrapped model, where DDP, FSDP and ZeRO expect it.
- `CheckedLogps()` takes the place of `shared_logps`. At its first call for a model it compares the shared pass with the
  plain one on a small sample. All ranks decide together, and fall back to the plain pass with one warning.
- `plain_logps` takes the same arguments and repeats the prompt for every completion. It is what the shared pass is
  compared with, and the pass of models that cannot share (`family.path == "plain"`).
- `fused_lm_head=True` scores by the head that TRL's `add_fused_lm_head` adds, which never has all logits in memory. It
  is useful on CUDA. On a CPU that head projects every position.
- `sliced_logps(model, batch, rows_per_slice=8)` scores a group whose activations do not fit into memory at once.
- Gradient checkpointing, autocast, LoRA and `disable_adapter()` work as around any other forward.
- A trainable or a sharded tower runs on a dummy image in passes without any image, so that all ranks stay in step.
"""

from triptych_trainer.forward.batch import CompletionImage, GroupBatch
from triptych_trainer.forward.encode import encode_images
from triptych_trainer.forward.generate import shared_generate
from triptych_trainer.forward.hooks import install_hooks
from triptych_trainer.forward.logps import plain_logps, shared_logps
from triptych_trainer.forward.sliced import sliced_logps
from triptych_trainer.forward.verify import CheckedLogps
from triptych_trainer.models.families import ImageFeatures

__all__ = [
    "CheckedLogps",
    "CompletionImage",
    "GroupBatch",
    "ImageFeatures",
    "encode_images",
    "install_hooks",
    "plain_logps",
    "shared_generate",
    "shared_logps",
    "sliced_logps",
]
