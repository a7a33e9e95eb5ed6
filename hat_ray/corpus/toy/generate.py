"""Draw the toy corpus: a seed becomes three splits, split by derivation."""

from collections.abc import Iterator

from hat_ray.corpus.config import ToyConfig
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.toy.derive import Deriver
from hat_ray.corpus.toy.draws import Dice
from hat_ray.corpus.toy.lexicon import lexicon
from hat_ray.corpus.toy.source import speak_source
from hat_ray.corpus.toy.target import speak_target
from hat_ray.corpus.toy.tree import Sentence
from hat_ray.errors import CorpusError

GENERATOR_VERSION = 1
"""Rises with every change of the language, so that prepared corpora are made anew."""
SHORTEST, LONGEST = 4, 40
"""Words and punctuation marks of a source sentence."""

_TRIES = 200


def generate(config: ToyConfig, *, variation: int = 0) -> dict[str, ParallelText]:
    """Return the splits train, valid and test; no source sentence occurs twice, in one split or over all.

    Test and validation are drawn first, so that they stay the same whatever the number of training pairs.
    Another `variation` translates the same sentences with other free choices: the two differ as two right answers do.
    """
    sizes = {"test": config.test_pairs, "valid": config.valid_pairs, "train": config.train_pairs}
    seen: set[str] = set()
    texts = {}
    for split, pairs in sizes.items():
        choices = Dice(config.seed, "toy", split, "variation", variation)
        source: list[str] = []
        target: list[str] = []
        for sentence, line in _derivations(config.seed, split, pairs, seen):
            source.append(line)
            target.append(write(speak_target(sentence, choices)))
        texts[split] = ParallelText(source, target)
    return {split: texts[split] for split in ("train", "valid", "test")}


def _derivations(seed: int, split: str, pairs: int, seen: set[str]) -> Iterator[tuple[Sentence, str]]:
    """Yield new derivations and their source lines, of fitting length."""
    deriver = Deriver(lexicon(), Dice(seed, "toy", split))
    for _ in range(pairs):
        for _ in range(_TRIES):
            sentence = deriver.sentence()
            words = speak_source(sentence)
            line = write(words)
            if SHORTEST <= len(words) <= LONGEST and line not in seen:
                break
        else:
            raise CorpusError(f"the toy language has no more new sentences after {len(seen)}: ask for fewer pairs")
        seen.add(line)
        yield sentence, line


def write(words: list[str]) -> str:
    """Join words and punctuation into a line: commas that meet become one, the first letter a capital."""
    line = ""
    for word in words:
        if word == "," and line.endswith(","):
            continue
        if word == ".":
            line = line.removesuffix(",")
        line += word if word in (",", ".") or not line else f" {word}"
    return line[0].upper() + line[1:]
