"""A found model as a service."""
