"""GRPO: the trainer, its rollouts and its groups."""
