"""The built-in language pair: a transfer grammar from an English-like source to a German-like target.

One derivation (`tree.py`, drawn by `derive.py`) is spoken twice: by `source.py` and by `target.py`. Words are coined
from a fixed seed (`coin.py`, `lexicon.py`), so that only the generator ships and never text.
"""
