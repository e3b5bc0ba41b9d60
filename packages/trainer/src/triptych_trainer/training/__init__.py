"""A training as the command line describes it: the trainer with all that watches it, and what it leaves behind."""
