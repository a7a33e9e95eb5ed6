"""Evolution of architectures under latency limits: one search serves every device and every limit."""
