"""Validations of a training: BLEU beside the loss, and which of them is the best."""
