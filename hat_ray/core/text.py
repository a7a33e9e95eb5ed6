"""Figures as readers like them: three significant digits, units apart, a dash for an unknown value."""

import math
from decimal import ROUND_CEILING, Decimal

UNKNOWN = "–"


def significant(value: float | None, digits: int = 3) -> str:
    """Return `value` with this number of significant digits, never in scientific notation: 0.123, 1.23, 12.3, 123,
    1,234."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def fixed(value: float | None, decimals: int) -> str:
    """Return `value` with this number of decimals."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:,.{decimals}f}"


def signed(value: float | None, decimals: int) -> str:
    """Return `value` with its sign, a true minus."""
    if value is None:
        return UNKNOWN
    text = f"{value:+,.{decimals}f}"
    return text.replace("-", "−")


def milliseconds(value: float | None) -> str:
    return UNKNOWN if value is None else f"{significant(value)} ms"


def limit(value: float | None) -> str:
    """Return a latency limit in at most four digits below a second: 40 ms, 12.5 ms, 8.957 ms."""
    if value is None:
        return UNKNOWN
    return f"{bound_digits(value)} ms"


def bound_digits(value: float) -> str:
    """Return a bound in at most four digits below 1,000: 40, 12.5, 8.957."""
    return f"{value:.4g}" if value < 1000 else f"{value:,.6g}"


def text_above(value: float) -> str:
    """Return the least number of four digits that is not below `value`, as a recipe takes it: 12.35, 0.1234, 12350."""
    exact = Decimal(repr(value))
    return _plain(exact.quantize(Decimal((0, (1,), exact.adjusted() - 3)), ROUND_CEILING))


def text_exact(value: float) -> str:
    """Return a number so that it reads back as the same: 40, 12.5, 12345.678."""
    return _plain(Decimal(repr(value)))


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: float) -> str:
    """Return a large count in thousands, millions or billions: 812, 8.12 k, 1.23 M, 4.5 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{significant(value / size)} {unit}"
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return a duration: 8.2 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{significant(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def energy(kwh: float) -> str:
    """Return an energy: 0.21 Wh, 35 Wh, 1.2 kWh, 2.5 MWh."""
    for unit, size in (("MWh", 1e3), ("kWh", 1.0)):
        if kwh >= size:
            return f"{significant(kwh / size, 2)} {unit}"
    return f"{significant(kwh * 1e3, 2)} Wh"


def mass(grams: float) -> str:
    """Return a mass: 0.21 g, 35 g, 1.2 kg, 2.5 t."""
    for unit, size in (("t", 1e6), ("kg", 1e3)):
        if grams >= size:
            return f"{significant(grams / size, 2)} {unit}"
    return f"{significant(grams, 2)} g"
