"""multi-bleu: the BLEU of HAT's papers, on tokenised text, as a figure of its own beside sacreBLEU's.

Decisions
- Text is plain here, so both sides are tokenised by Moses' rules for the target language (sacremoses), and words with
  dashes are cut as HAT's `test.sh` cuts them. Words between spaces are then counted, without smoothing.
- The figure depends on the tokenisation, and does not compare with sacreBLEU's: the signature states all of it.
"""

import re
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from sacrebleu.metrics.bleu import BLEU

from hat_ray.errors import CorpusError

try:
    import sacremoses
except ModuleNotFoundError:  # named when the figure is asked for
    sacremoses = None

_DASH = re.compile(r"(\S)-(\S)")


def multi_bleu(hypotheses: Sequence[str], references: Sequence[str], language: str) -> tuple[float, str]:
    """Return multi-bleu of hypotheses against one reference, 0 to 100, and the signature of its settings."""
    if sacremoses is None:
        raise CorpusError(
            "evaluate.metric multi-bleu needs the library sacremoses: pip install 'hat-ray[vocabularies]', or set "
            "evaluate.metric to sacrebleu"
        )
    if not hypotheses or len(hypotheses) != len(references):
        raise CorpusError(
            f"hypotheses and references must have equally many lines and one at least, got {len(hypotheses)} and "
            f"{len(references)}"
        )
    tokenizer = sacremoses.MosesTokenizer(lang=language)
    sides = [[_tokenised(line, tokenizer) for line in side] for side in (hypotheses, references)]
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    score = metric.corpus_score(sides[0], [sides[1]])
    signature = f"multi-bleu|nrefs:1|case:mixed|tok:moses-{language}|dashes:split|smooth:none"
    return float(score.score), f"{signature}|sacremoses:{metadata.version('sacremoses')}"


def _tokenised(line: str, tokenizer: Any) -> str:
    """Return the tokens of a line between spaces, words with dashes in three."""
    return _DASH.sub(r"\1 ##AT##-##AT## \2", str(tokenizer.tokenize(line, return_str=True)))
