"""What each device prefers, and which of its runtimes wins."""
