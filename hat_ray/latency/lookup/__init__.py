"""Content of a latency table that is not of this run: rows of containing spaces, and devices that are not attached."""
