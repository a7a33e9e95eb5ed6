"""Export a model of its own corpus: its test set is the text of the check."""

from pathlib import Path

from hat_ray.corpus.corpus import Corpus
from hat_ray.evaluate.about import about_model
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.evaluate import scored_text
from hat_ray.export.export import Export, Exported, short_lists_of
from hat_ray.export.parity import CheckText
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.protocol import Bounds


def export_model(
    model: SubTransformer,
    corpus: Corpus,
    out: Path,
    dtype: str,
    config: EvaluateConfig,
    bounds: Bounds,
    *,
    runtime: str = "onnx",
    short_list: int = 0,
) -> Exported:
    """Write `out`, after translating the test set (its first `config.sentences`) with the exported model.

    `short_list`: target words listed for each source word; 0: all words may follow.
    """
    lists = short_lists_of(corpus, short_list)
    text = CheckText(*scored_text(corpus, config))
    about = about_model(corpus.summary, config, model.architecture.id)
    return Export(runtime, dtype, lists, config, bounds).write(model, corpus.vocabularies, about, out, text)
