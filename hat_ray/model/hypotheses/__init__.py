"""Decoding as a request wants it: several hypotheses, rules against repetition, sampling, prefixes, alignments.

`model/beam.py` finds one translation, and is as fast as can be; what it cannot do is done here, for every engine alike.
All but `stepwise.py` needs no PyTorch: an export carries these modules.
"""
