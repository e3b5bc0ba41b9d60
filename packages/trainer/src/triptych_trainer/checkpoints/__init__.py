"""Checkpoints that are whole or absent, and runs that go on from them."""
