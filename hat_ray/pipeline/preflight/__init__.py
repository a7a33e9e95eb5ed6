"""What can be known before the first expensive minute, looked at then: small checks, each with the stages it is for."""
