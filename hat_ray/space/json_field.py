"""An architecture as a field of dataclasses that pydantic writes to JSON and reads back."""

from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from hat_ray.space.architecture import Architecture


def _read_architecture(value: Any) -> Architecture:
    return value if isinstance(value, Architecture) else Architecture.from_dict(value)


ArchitectureField = Annotated[
    Architecture, PlainSerializer(lambda architecture: architecture.to_dict()), PlainValidator(_read_architecture)
]
"""An architecture that JSON holds in its canonical form."""
