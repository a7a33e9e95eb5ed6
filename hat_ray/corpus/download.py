"""Where the text files are."""

from hat_ray.corpus.config import CorpusConfig, FilesConfig


def text_files(config: CorpusConfig) -> FilesConfig:
    """Return the text files with the folder that they are in."""
    assert config.files is not None, "a corpus of files names them"
    return config.files
