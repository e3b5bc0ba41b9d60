"""A training as the command line describes it: the trainer, its callbacks, and the files of its result."""
