"""The demos' GRPO settings, under TRL's own names."""

from dataclasses import dataclass, field

from triptych_trainer.demo.look.task import CALLING_TURNS, COMPLETION_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPOOptions:
    """Says what the demo sets in `GRPOConfig`: 16 prompts of 8 completions a step, no KL term, else TRL's default."""

    max_steps: int = 80
    per_device_train_batch_size: int = 128
    gradient_accumulation_steps: int = 1
    num_generations: int = 8
    max_completion_length: int = 16
    learning_rate: float = 4e-4
    lr_scheduler_type: str = "cosine_with_min_lr"
    lr_scheduler_kwargs: dict[str, float] = field(default_factory=lambda: {"min_lr_rate": 0.1})
    reward_weights: list[float] = field(default_factory=lambda: [1.0, 0.25])
    """Of the rewards `accuracy` and `format`, in that order; exact in binary, so that equal rewards have no spread."""
    temperature: float = 1.0
    beta: float = 0.0
    bf16: bool = False
    gradient_checkpointing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LookOptions(GRPOOptions):
    """Adds the options of the demo `look`; its rewards are `accuracy`, `answered`, and the cost of the looks."""

    max_completion_length: int = COMPLETION_TOKENS
    max_tool_calling_iterations: int = CALLING_TURNS
    adam_beta2: float = 0.99
    warmup_steps: int = 3
    reward: list[str] = field(default_factory=lambda: ["accuracy", "triptych_trainer.demo.look.rewards:answered"])


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPORecipe:
    """Says how many samples a demo trains on and is measured on, and with which options it trains."""

    num_train: int = 1280
    num_heldout: int = 240
    options: GRPOOptions = field(default_factory=GRPOOptions)
