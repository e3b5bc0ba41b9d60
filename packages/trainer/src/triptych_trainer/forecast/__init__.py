"""``triptych plan``: memory, steps and hours of a run, before anything is loaded on a GPU."""
