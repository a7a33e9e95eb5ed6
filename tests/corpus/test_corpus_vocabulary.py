import pickle

import pytest

from hat_ray.corpus.vocabulary import BOS, EOS, PAD, UNK
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.corpus.vocabulary.subwords import SentencePieceSubwords
from hat_ray.errors import CorpusError

LINES = ["the old man sees a dog .", "Der alte Mann sieht einen Hund .", "the dog sees the man .", "Grüße an alle"] * 3


@pytest.fixture(scope="module")
def vocabulary() -> SentencePieceSubwords:
    return learn_vocabulary(LINES, 60, byte_fallback=False)


def test_special_ids_are_those_of_fairseq(vocabulary: SentencePieceSubwords) -> None:
    assert (BOS, PAD, EOS, UNK) == (0, 1, 2, 3)
    assert len(vocabulary) == 60
    assert vocabulary.encode("") == [EOS]


def test_encoding_ends_in_eos_and_decoding_gives_the_line_back(vocabulary: SentencePieceSubwords) -> None:
    for line in LINES:
        tokens = vocabulary.encode(line)
        assert tokens[-1] == EOS
        assert not {BOS, PAD, UNK} & set(tokens)
        assert vocabulary.decode([PAD, PAD, BOS, *tokens, PAD]) == line
    assert vocabulary.encode_lines(LINES) == [vocabulary.encode(line) for line in LINES]


def test_text_that_looks_like_a_special_token_is_only_text() -> None:
    vocabulary = learn_vocabulary([*LINES, "<s> </s> <pad> <unk>"], 60, byte_fallback=False)
    tokens = vocabulary.encode("</s> <s> <pad>")
    assert not {BOS, PAD, EOS} & set(tokens[:-1])


def test_learning_is_deterministic_and_survives_bytes_and_pickle(vocabulary: SentencePieceSubwords) -> None:
    again = learn_vocabulary(LINES, 60, byte_fallback=False)
    assert again.files() == vocabulary.files()
    assert SentencePieceSubwords(vocabulary.files()).encode(LINES[0]) == vocabulary.encode(LINES[0])
    assert pickle.loads(pickle.dumps(vocabulary)).encode(LINES[1]) == vocabulary.encode(LINES[1])  # noqa: S301


def test_byte_fallback_keeps_characters_that_training_never_showed(vocabulary: SentencePieceSubwords) -> None:
    line = "the 漢 Ω dog"
    assert UNK in vocabulary.encode(line)
    spelling = learn_vocabulary(LINES, 320, byte_fallback=True)
    assert spelling.decode(spelling.encode(line)) == line


def test_a_vocabulary_too_large_names_the_largest_possible_which_then_works() -> None:
    with pytest.raises(CorpusError, match=r"set corpus\.vocab_size to \d+ or less") as caught:
        learn_vocabulary(LINES, 5000, byte_fallback=False)
    largest = int(str(caught.value).split()[-3])
    assert len(learn_vocabulary(LINES, largest, byte_fallback=False)) == largest
    with pytest.raises(CorpusError):
        learn_vocabulary(LINES, largest + 1, byte_fallback=False)


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_a_vocabulary_too_small_names_the_smallest_possible_which_then_works(byte_fallback: bool) -> None:
    with pytest.raises(CorpusError, match=r"set corpus\.vocab_size to \d+ or more") as caught:
        learn_vocabulary(LINES, 12, byte_fallback=byte_fallback)
    smallest = int(str(caught.value).split()[-3])
    assert len(learn_vocabulary(LINES, smallest, byte_fallback=byte_fallback)) == smallest


def test_sentencepiece_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    learn_vocabulary(LINES, 60, byte_fallback=False)
    with pytest.raises(CorpusError):
        learn_vocabulary(LINES, 5000, byte_fallback=False)
    out, err = capfd.readouterr()
    assert out + err == ""
