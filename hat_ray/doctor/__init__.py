"""What a machine and a cluster can do for a run, and what they lack."""
