"""Hugging Face's folders of MarianMTModel, which OPUS-MT publishes."""
