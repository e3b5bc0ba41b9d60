"""The options of a run, and which of them are refused."""
