"""The three splits of a text: read, surveyed, and watched for sides that do not belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from hat_ray.corpus.cleaning.finding import Split, TextFinding
from hat_ray.corpus.cleaning.languages import Language
from hat_ray.corpus.cleaning.letters import Letters
from hat_ray.corpus.cleaning.rules import HeldSources, PairRules
from hat_ray.corpus.cleaning.scripts import Script
from hat_ray.corpus.cleaning.sides import SideModel
from hat_ray.corpus.cleaning.watch import TextWatch
from hat_ray.corpus.config import CorpusConfig
from hat_ray.corpus.text.download import text_files
from hat_ray.corpus.text.files import ParallelText
from hat_ray.corpus.text.source import PairedFiles, PairedLines, PairSource
from hat_ray.corpus.text.survey import Survey, held_out_sources, survey
from hat_ray.corpus.text.taught import Taught, taught_pairs
from hat_ray.corpus.toy.generate import generate

_SAMPLE, _SAMPLED_PARTS = 1_000, 3
"""Pairs of a split by whose letters another is judged, and the parts of the training text that they are of."""
_NAMES: Mapping[str, Split] = {"valid": "validation", "test": "test"}


@dataclass(frozen=True)
class Splits:
    """The text of a corpus."""

    train: PairSource
    """To be streamed."""
    held: Mapping[str, ParallelText]
    """Splits with text of their own, in memory: `test`, and `valid` unless it is taken out of the training text."""
    files: Mapping[str, PairSource]
    """Where they are from."""
    valid_every: int

    @classmethod
    def read(cls, config: CorpusConfig) -> "Splits":
        """Open the text that a recipe names; validation and test are read."""
        if config.source == "toy":
            texts = generate(config.toy)
            sources = {split: PairedLines(text) for split, text in texts.items()}
            return cls(sources["train"], {name: texts[name] for name in _NAMES}, sources, 0)
        files = text_files(config)
        opened = {
            split: PairedFiles(files.parts(f"{split}_source"), files.parts(f"{split}_target"), config.nfc)
            for split in ("train", *_NAMES)
        }
        held = {split: whole_text(opened[split]) for split in _NAMES if opened[split].num_parts}
        return cls(opened["train"], held, opened, files.valid_every)

    def surveyed(self, config: CorpusConfig, taught: Taught | None = None) -> tuple[Survey, list[TextFinding]]:
        """Read the training text once; raises CorpusError for text that cannot be used."""
        source = self.train if taught is None else taught_pairs(self.train, taught, self.valid_every)
        every = self.valid_every
        valid = held_out_sources(source, every) if every else self.held["valid"].source
        rules = pair_rules(config, HeldSources.of(valid, self.held["test"].source), every)
        watch = TextWatch("training", self._letters("train", config))
        found = survey(source, rules, watch)
        return found, [*watch.findings(source.names), *self._findings_of_held(config)]

    def _findings_of_held(self, config: CorpusConfig) -> list[TextFinding]:
        found = []
        for split, text in self.held.items():
            watch = TextWatch(_NAMES[split], self._letters(split, config))
            watch.take(0, text.source, text.target)
            source = self.files[split]
            found += watch.findings(source.names if source.num_parts == 1 else lambda _part: ("", ""))
        return found

    def _letters(self, split: str, config: CorpusConfig) -> Letters:
        """Return what judges the letters of a split; the toy pair is of no known language."""
        if config.source == "toy":
            return Letters(self._sides(split))
        ours, theirs = config.source_language, config.target_language
        scripts = (Script.of(ours), Script.of(theirs))
        return Letters(self._sides(split), scripts, (Language.of(ours), Language.of(theirs)))

    def _sides(self, split: str) -> SideModel | None:
        """Return what judges the sides of a split by their letters: the other splits, which are of the same pair."""
        samples = [_sample(text.source, text.target) for name, text in self.held.items() if name != split]
        if split != "train" or not samples:
            parts = range(min(self.train.num_parts, _SAMPLED_PARTS))
            chunks = [chunk for part in parts if (chunk := next(iter(self.train.chunks(part)), None)) is not None]
            samples += [_sample(chunk.source, chunk.target) for chunk in chunks]
        return SideModel.of(*([line for one in samples for line in one[side]] for side in (0, 1)))


def pair_rules(config: CorpusConfig, held: HeldSources, valid_every: int) -> PairRules:
    """Return the rules that a recipe sets."""
    source, target = Script.of(config.source_language), Script.of(config.target_language)
    return PairRules(
        held,
        config.leaks == "remove",
        valid_every,
        config.drop_identical,
        (source, target) if source and target else None,
        config.min_script_share,
        config.deduplicate,
    )


def whole_text(files: PairSource) -> ParallelText:
    """Read all parts into memory."""
    chunks = [chunk for part in range(files.num_parts) for chunk in files.chunks(part)]
    return ParallelText(
        list(chain.from_iterable(chunk.source for chunk in chunks)),
        list(chain.from_iterable(chunk.target for chunk in chunks)),
    )


def training_text(config: CorpusConfig) -> PairSource:
    """Return the training text of a corpus, to be streamed."""
    return Splits.read(config).train


def _sample(source: Sequence[str], target: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return pairs of a text, evenly spaced."""
    step = max(1, len(source) // _SAMPLE)
    return source[::step][:_SAMPLE], target[::step][:_SAMPLE]
