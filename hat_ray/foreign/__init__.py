"""Models that other programs trained: recognised by their content, read without executing anything from them."""
