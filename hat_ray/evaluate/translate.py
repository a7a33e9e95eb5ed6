"""Translate lines of text with beam search: in length-sorted batches inside, in the given order outside.

Legend: B sentences of a batch, S source tokens.
"""

from collections.abc import Sequence

from hat_ray.core.progress import Progress, no_progress
from hat_ray.corpus.batches import pad_sources
from hat_ray.corpus.vocabulary import EOS, PAD, Vocabularies
from hat_ray.corpus.vocabulary.subwords import is_blank
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.model.beam import beam_search
from hat_ray.model.hypotheses.lines import Numbers, cut_overlong, plan_batches
from hat_ray.model.protocol import BeamSettings, Engine, WholeEngine, evaluating
from hat_ray.runtime.arrays import OnArrays
from hat_ray.runtime.standalone.beams import beam_search as arrays_search


def translate(
    model: Engine,
    vocabularies: Vocabularies,
    lines: Sequence[str],
    config: EvaluateConfig | None = None,
    progress: Progress = no_progress,
) -> list[str]:
    """Return the best translation of every line, in order; an empty line stays empty.

    Sources longer than `config.max_source_length` tokens are cut, and a warning counts them.
    """
    found = translate_tokens(model, vocabularies, lines, config, progress)
    return [vocabularies.target.decode(tokens) for tokens in found]


def translate_tokens(
    model: Engine,
    vocabularies: Vocabularies,
    lines: Sequence[str],
    config: EvaluateConfig | None = None,
    progress: Progress = no_progress,
    first: Numbers = 1,
) -> list[tuple[int, ...]]:
    """Return the tokens of `translate`, without the end of sentence; none for an empty line.

    `first` are the numbers by which a warning names lines.
    """
    config = config or EvaluateConfig()
    full = [row for row, line in enumerate(lines) if not is_blank(line)]
    sources = dict(zip(full, vocabularies.source.encode_lines([lines[row] for row in full]), strict=True))
    sources = cut_overlong(sources, min(config.max_source_length, model.max_positions), first)
    translations: list[tuple[int, ...]] = [()] * len(lines)
    done = len(lines) - len(sources)
    with evaluating(model):
        for rows in plan_batches({row: len(tokens) for row, tokens in sources.items()}, config.batch_tokens):
            for row, tokens in zip(rows, _decode([sources[row] for row in rows], model, config), strict=True):
                translations[row] = tokens[:-1] if tokens[-1:] == (EOS,) else tokens
            done += len(rows)
            progress(done, len(lines), {})
    return translations


def _decode(sources: list[list[int]], model: Engine, config: EvaluateConfig) -> list[tuple[int, ...]]:
    most = [
        min(int(config.max_length_factor * len(one) + config.max_length_extra), model.max_positions - 1)
        for one in sources
    ]
    if isinstance(model, WholeEngine):
        search = BeamSettings(config.beam, config.length_penalty, most)
        return [tuple(tokens) for tokens in model.translate(sources, search)]
    source = pad_sources(sources)  # (B, S)
    if isinstance(model, OnArrays):
        graphs, penalty = model.arrays, config.length_penalty
        found = arrays_search(
            graphs, source.numpy(), beam=config.beam, length_penalty=penalty, max_length=most, pad=PAD, eos=EOS
        )
        return [tuple(tokens) for tokens in found]
    source = source.to(model.device)
    hypotheses = beam_search(model, source, beam=config.beam, length_penalty=config.length_penalty, max_length=most)
    return [best[0].tokens for best in hypotheses]
