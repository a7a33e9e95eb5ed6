"""Checks before the first expensive minute: small ones, each with the stages it is for."""
