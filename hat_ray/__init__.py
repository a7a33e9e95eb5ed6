"""hat-ray: hardware-aware architecture search for translation Transformers, on Ray."""

__version__ = "0.1.0"
