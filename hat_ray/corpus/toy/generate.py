"""Draw the toy corpus: a seed becomes three splits."""

import random

from hat_ray.corpus.config import ToyConfig
from hat_ray.corpus.text import ParallelText
from hat_ray.seeds import stream_seed

GENERATOR_VERSION = 0


def generate(config: ToyConfig) -> dict[str, ParallelText]:
    """Return the splits train, valid and test; no source sentence occurs twice."""
    stream = random.Random(stream_seed(config.seed, "toy"))
    seen: set[str] = set()
    texts = {}
    for split, pairs in (("train", config.train_pairs), ("valid", config.valid_pairs), ("test", config.test_pairs)):
        source: list[str] = []
        target: list[str] = []
        while len(source) < pairs:
            words = [stream.randrange(300) for _ in range(stream.randint(3, 12))]
            line = " ".join(f"{chr(97 + w % 26)}{chr(97 + w // 26)}o" for w in words)
            if line not in seen:
                seen.add(line)
                source.append(line + " .")
                target.append(" ".join(f"{chr(97 + w % 26)}{chr(97 + w // 26)}ut" for w in reversed(words)) + " .")
        texts[split] = ParallelText(source, target)
    return texts
