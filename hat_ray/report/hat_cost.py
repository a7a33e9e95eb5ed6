"""What HAT published about its own cost, beside a run's counts of the same work.

Sources: the paper's abstract (arXiv 2005.14187), and the README of its code with its picture and configurations
(WMT'14 En-De): SuperTransformer and SubTransformers 40,000 updates of 8 GPUs x 16 batches of 4,096 tokens; evolution
30 x 125; latency tables of 2,000 rows; search cost 52 pounds of CO2, the Evolved Transformer's 626,155.
"""

from hat_ray.report.html import Child
from hat_ray.report.ledger import WorkDone
from hat_ray.report.numbers import count, mass

HAT_UPDATES = 40_000
HAT_TOKENS = HAT_UPDATES * 8 * 16 * 4_096
"""At most: batches are filled up to that size."""
HAT_SCORED = 30 * 125
"""For each device and limit; parents are scored again."""
HAT_TIMED = 2_000
"""On each device."""

GRAMS_A_POUND = 453.592
HAT_CO2_G = 52 * GRAMS_A_POUND
EVOLVED_TRANSFORMER_CO2_G = 626_155 * GRAMS_A_POUND

HAT_CLAIM = (
    f"HAT puts its search cost at 52 pounds of CO2 ({mass(HAT_CO2_G)}), 12,041 times less than the Evolved "
    f"Transformer's 626,155 ({mass(EVOLVED_TRANSFORMER_CO2_G)}), whose search shares no weights. Against HAT itself, "
    "what compares is the counts above."
)
NOT_COMPARABLE = (
    "What does not compare: hours and energy. HAT trained on several GPUs and much larger text, and its CO2 is that of "
    "its hardware and grid; the figures above are busy cores and GPUs under the assumptions named. A small run costs "
    "less because it trains less, not because it is the better method: hold runs of one recipe against one another."
)


def work_rows(work: WorkDone) -> list[list[Child]]:
    """Return what was done, as counts, beside HAT's; what is not done yet is left out."""
    rows: list[list[Child]] = []
    if work.supernet_updates is not None:
        rows.append(["SuperTransformer, updates", f"{work.supernet_updates:,}", f"{HAT_UPDATES:,}"])
    if work.supernet_tokens is not None:
        rows.append(["SuperTransformer, tokens", count(work.supernet_tokens), f"at most {count(HAT_TOKENS)}"])
    if work.timed_a_device is not None:
        rows.append(["Architectures timed, on each device", f"{work.timed_a_device:,.0f}", f"{HAT_TIMED:,}"])
    if work.searches is not None and work.candidates is not None:
        pairs = f"{work.searches} limit{'s' if work.searches != 1 else ''}"
        many = f"{work.searches * HAT_SCORED:,} in {work.searches} search{'es' if work.searches != 1 else ''}"
        rows.append([f"Architectures scored, for {pairs}", f"{work.candidates:,} in one search", many])
    if work.models is not None and work.model_updates is not None:
        rows.append(["Models from scratch, updates each", f"{work.model_updates:,}", f"{HAT_UPDATES:,}"])
    return rows
