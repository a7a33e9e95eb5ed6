"""A prepared corpus, read back."""

from dataclasses import dataclass
from functools import cached_property

from pydantic import TypeAdapter

from hat_ray.codec import read_checked, read_rows, read_typed
from hat_ray.corpus.cache import local_shard
from hat_ray.corpus.shards import map_shards
from hat_ray.corpus.summary import MODEL_FILE, SUMMARY_FILE, CorpusSummary
from hat_ray.corpus.tokens import TokenTable
from hat_ray.corpus.vocabulary import Vocabulary
from hat_ray.errors import CorpusError
from hat_ray.storage import Folder


@dataclass(frozen=True)
class Corpus:
    """The vocabulary and the token tables of a prepared folder. Tables are opened on first use and not pickled."""

    folder: Folder
    summary: CorpusSummary

    @classmethod
    def load(cls, folder: Folder) -> "Corpus":
        """Open a prepared folder."""
        if not folder.exists(SUMMARY_FILE):
            raise CorpusError(f"{folder} holds no whole corpus: prepare it first with `hat-ray corpus`")
        return cls(folder, read_typed(folder, SUMMARY_FILE, TypeAdapter(CorpusSummary)))

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "summary": self.summary}

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.from_bytes(read_checked(self._data, MODEL_FILE, self.summary.files.get(MODEL_FILE)))

    @cached_property
    def train(self) -> TokenTable:
        """Training pairs, mapped from the shards' files; those of a remote folder are copied to this machine once."""
        shards = self.summary.shards
        return map_shards([local_shard(self._data, shard) for shard in shards], shards)

    @cached_property
    def valid(self) -> TokenTable:
        """Validation pairs, with their lines."""
        return self._table("valid")

    @cached_property
    def test(self) -> TokenTable:
        """Test pairs, with their lines: `source_text` and the references in `target_text`."""
        return self._table("test")

    @property
    def _data(self) -> Folder:
        return self.folder.child(self.summary.data)

    def _table(self, split: str) -> TokenTable:
        name = f"{split}.parquet"
        return TokenTable.from_arrow(read_rows(self._data, name, self.summary.files.get(name)))
