"""What a run shows while it is running: progress, speed, trackers, and the record of its options."""
