"""Rollouts, and their files: parquet files with one row for each group."""
