"""What a certificate states, in sentences: for its page and for the terminal."""

from hat_ray.certificate.certificate import LEAST_QUERIES, LEAST_SECONDS, LEAST_SHARE, Certificate, Original
from hat_ray.core.text import UNKNOWN, duration, fixed, significant

_BUSY_CPUS = 0.5


def cautions(made: Certificate) -> list[str]:
    """Return what a reader has to know before the figures: each one sentence."""
    found = []
    if not made.rules.are_mlperf:
        found.append(
            f"Not by MLPerf's rules: its single stream has at least {LEAST_QUERIES:,} queries and {LEAST_SECONDS:g} s; "
            f"this one had {made.latency.queries:,} queries in {duration(made.latency.seconds)}."
        )
    if made.original.keeps is False:
        found.append(f"Below {100 * LEAST_SHARE:g} % of the fp32 model's quality: {comparison(made.original)}")
    if (made.latency.other_load_cpus or 0.0) > _BUSY_CPUS:
        found.append(
            f"Other processes kept {fixed(made.latency.other_load_cpus, 1)} CPUs busy: times are upper bounds."
        )
    return found


def comparison(original: Original) -> str:
    """Return in one sentence how the export compares with the fp32 model."""
    if original.known_from == "itself":
        return "The export is the fp32 model itself."
    if original.known_from == "nothing":
        return "The fp32 model's quality is not known: name its export with --against."
    share = " and ".join(f"{100 * value:.2f} % of its {name}" for name, value in original.shares.items())
    if not share:
        return f"The fp32 model has {fixed(original.bleu, 2)} BLEU, so there is no share of it to state."
    where = f"on {original.sentences:,} sentences, by {original.known_from}"
    return f"The export keeps {share} ({fixed(original.bleu, 2)} BLEU in fp32; {where})."


def shown(value: float | None, unit: str) -> str:
    """Return a figure with its unit."""
    return UNKNOWN if value is None else f"{significant(value)} {unit}".strip()
