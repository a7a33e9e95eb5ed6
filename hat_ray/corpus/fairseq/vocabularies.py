"""The dictionaries of a data-bin as vocabularies, with the BPE codes and the tokenisation that a recipe names."""

from hat_ray.corpus.config import CorpusConfig
from hat_ray.corpus.fairseq.data_bin import DataBin
from hat_ray.corpus.text.download import vocabulary_folder
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.given import given_vocabularies


def data_bin_vocabularies(data_bin: DataBin, config: CorpusConfig) -> Vocabularies:
    """Open both dictionaries, which are one where both sides have the same symbols."""
    source, target = (str(path.absolute()) for path in data_bin.dictionary_paths)
    named = config.vocabulary.model_copy(update={"source": source, "target": source if data_bin.joined else target})
    return given_vocabularies(named, data_bin.languages, vocabulary_folder(config))
