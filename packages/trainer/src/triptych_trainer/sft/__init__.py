"""Supervised fine-tuning on the turns of the assistant, with every image at its place."""
