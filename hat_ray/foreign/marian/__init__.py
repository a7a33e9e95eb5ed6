"""Marian's own format: an `.npz` of weights with the model's settings inside, read and written.

What Marian computes was checked with pymarian 1.12: sinusoids that count from 0 with fairseq's frequencies, embeddings
scaled by the square root of the width, a zero vector as the decoder's first input, 1e-6 in the layer norms, a bias for
each target word, and `<unk>` that never comes out.
"""
