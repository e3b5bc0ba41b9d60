"""A vLLM server for rollouts: how it is started, and what its workers learn in addition to vLLM's own calls."""
