"""Prompts: from examples to token ids, spans and image inputs."""
