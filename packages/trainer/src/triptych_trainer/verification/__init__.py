"""At first use: whether a model computes here what transformers computes with the same model, and if not, where."""
