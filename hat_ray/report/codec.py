"""`ReportData` to JSON and back."""

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hat_ray.errors import HatRayError, RunError
from hat_ray.report.data import SCHEMA_VERSION, ReportData

_ADAPTER: TypeAdapter[ReportData] = TypeAdapter(ReportData)


def to_json(data: ReportData) -> dict[str, Any]:
    """Return plain JSON values; a loss that is not finite (a training that diverged) becomes null."""
    values: dict[str, Any] = json.loads(_ADAPTER.dump_json(data))
    return values


def from_json(value: Any) -> ReportData:
    """Read what `to_json` wrote; raises RunError when it is of another version or damaged."""
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise RunError(
            f"report.json must have schema_version {SCHEMA_VERSION}, got {version!r}: write the report again"
        )
    try:
        return _ADAPTER.validate_python(value)
    except HatRayError as error:
        raise RunError(f"report.json is damaged: {error}: write the report again") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(f"report.json is damaged at {place}: {first['msg']}: write the report again") from error
