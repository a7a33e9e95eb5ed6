import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hat_ray.corpus import tokens
from hat_ray.corpus.tokens import Sentences, TokenTable
from hat_ray.errors import CorpusError
from hat_ray.storage.folder import Folder

sentences = st.lists(st.integers(0, 2**31 - 1), max_size=6)
pairs = st.lists(st.tuples(sentences, sentences), max_size=12)


def unpack(table: TokenTable) -> list[tuple[list[int], list[int]]]:
    return [tuple(side.tolist() for side in table.sentence(i)) for i in range(len(table))]


@given(pairs, st.integers(1, 5))
def test_a_table_comes_back_from_arrow_whatever_its_chunks(rows: list[tuple[list[int], list[int]]], chunk: int) -> None:
    table = TokenTable.of(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_ROWS_PER_CHUNK", chunk)
        back = TokenTable.from_arrow(table.to_arrow())
    assert unpack(back) == unpack(table) == rows


@given(pairs, st.randoms())
def test_selected_rows_are_the_rows_asked_for(rows: list[tuple[list[int], list[int]]], random: object) -> None:
    indices = np.array([i for i in range(len(rows))[::-1] if i % 3 != 1], dtype=np.int64)
    assert unpack(TokenTable.of(rows).select(indices)) == [rows[i] for i in indices]


def test_parquet_holds_int32_lists_and_the_texts(tmp_path: object) -> None:
    folder = Folder.at(str(tmp_path))
    table = TokenTable(Sentences.of([[5, 2], [2]]), Sentences.of([[7, 8, 2], [2]]), ("a", ""), ("ä b", ""))
    folder.write_table("t.parquet", table.to_arrow())
    stored = folder.read_table("t.parquet")
    assert [(field.name, str(field.type).split("<")[0]) for field in stored.schema] == [
        ("source", "list"),
        ("target", "list"),
        ("source_text", "string"),
        ("target_text", "string"),
    ]
    assert str(stored.schema.field("source").type.value_type) == "int32"
    back = TokenTable.from_arrow(stored)
    assert unpack(back) == unpack(table)
    assert (back.source_text, back.target_text) == (("a", ""), ("ä b", ""))


def test_a_table_without_its_columns_is_refused(tmp_path: object) -> None:
    with pytest.raises(CorpusError, match="needs the columns source and target"):
        TokenTable.from_arrow(TokenTable.of([([2], [2])]).to_arrow().drop_columns(["target"]))
