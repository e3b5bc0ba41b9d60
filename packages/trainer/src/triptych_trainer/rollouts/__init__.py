"""Rollouts on disk: one row a group, in parquet parts."""
