"""Text that comes through a translation as it is: addresses, placeholders, mark-up, numbers, code, emoji, fixed terms.

`spans.py` finds it, `masking.py` puts symbols in its place and takes them out again, `practice.py` lets a training text
teach the symbols, `terms.py` reads a glossary. An export carries the first two and the last, which need no library.
"""
