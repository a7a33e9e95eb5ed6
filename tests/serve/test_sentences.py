"""Texts of several lines and sentences through the service, on a real socket without Ray."""

from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn", reason="needs ray[serve]")

from hat_ray.export.export import open_export
from tests.exported import Exported
from tests.serve.local import Local, served

LONG = " ".join(["dog"] * 70)


@pytest.fixture(scope="module")
def local(exported: Exported) -> Iterator[Local]:
    with served(exported.folder, max_texts=30) as one:
        yield one


@pytest.fixture(scope="module")
def ones(exported: Exported) -> list[str]:
    """Short sentences that end as sentences do."""
    return [f"{line.rstrip(' .').capitalize()}." for line in sorted(exported.lines, key=len)[:5]]


def test_paragraphs_keep_their_shape_and_sentences_are_translated_one_by_one(
    local: Local, exported: Exported, ones: list[str]
) -> None:
    model = open_export(exported.folder)
    said = dict(zip(ones, model.translate(ones), strict=True))
    a, b, c, d, e = ones
    text = f"\ufeff{a} {b}\r\n\n \u200b\n{c}\n"
    shaped = f"{said[a]} {said[b]}\n\n\n{said[c]}\n"
    assert local.ask({"text": text}).json == {"translation": shaped}
    assert local.ask({"texts": ["", text, f"{d} {e}", "\n"]}).json == {
        "translations": ["", shaped, f"{said[d]} {said[e]}", "\n"]
    }
    [whole] = model.translate([f"{d} {e}"])
    assert local.ask({"text": f"{d} {e}", "split": False}).json == {"translation": whole}
    assert whole != f"{said[d]} {said[e]}"
    with served(exported.folder, split=False) as unsplit:
        assert unsplit.ask({"text": f"{d} {e}"}).json == {"translation": whole}
        assert unsplit.ask({"text": f"{d} {e}", "split": True}).json == {"translation": f"{said[d]} {said[e]}"}


def test_a_text_that_is_too_long_for_the_model_is_translated_in_parts(local: Local, exported: Exported) -> None:
    [cut] = open_export(exported.folder).translate([LONG])
    answer = local.ask({"text": LONG})
    assert answer.status == 200
    assert len(answer.json["translation"]) > len(cut)
    many = local.ask({"text": LONG, "n_best": 2})
    assert (many.status, "text may have at most 60 tokens" in many.json["error"]) == (413, True)


def test_a_long_text_is_cut_beside_the_loop_and_comes_back_the_same(
    local: Local, ones: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(" ".join(ones[:2]) for _ in range(3))
    before = local.ask({"text": text}).json
    monkeypatch.setattr("hat_ray.serve.worker._SOON_CUT", 10)
    assert local.ask({"text": text}).json == before
