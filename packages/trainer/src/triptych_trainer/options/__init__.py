"""The options of a run, and the checks that refuse some of them."""
