"""``triptych eval``: how well a model answers held-out prompts, and on which of them it does not."""
