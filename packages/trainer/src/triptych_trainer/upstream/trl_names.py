"""The private names of TRL that are needed outside the border to it (`grpo/trl`): its sampler and its fused head."""

from trl.trainer.utils import RepeatSampler, add_fused_lm_head

__all__ = ["RepeatSampler", "add_fused_lm_head"]
