"""What a run shows while it goes on: progress, pace, trackers, and the record of its options."""
