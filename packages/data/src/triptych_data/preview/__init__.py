"""A dataset as one self-contained page, before a run: prompts as the model gets them, with their tokens counted."""
