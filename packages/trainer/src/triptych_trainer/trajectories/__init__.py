"""Rollouts of several turns: tools and environments that answer the model, and the images they return."""
