"""Lines as people, files and programs make them, of many kinds: generated, so that a seed gives the same ones."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Make = Callable[[random.Random, Sequence[str]], str]


@dataclass(frozen=True)
class Line:
    kind: str
    text: str
    """Without its line feed."""


def hostile_lines(sentences: Sequence[str], count: int, seed: int) -> list[Line]:
    """Return lines of every kind in turns, made of sentences of the model's language."""
    draw = random.Random(seed)
    kinds = list(KINDS)
    lines = []
    for number in range(count):
        if number % len(kinds) == 0:
            draw.shuffle(kinds)
        kind = kinds[number % len(kinds)]
        lines.append(Line(kind, KINDS[kind](draw, sentences)))
    return lines


def wrongly_encoded(draw: random.Random) -> bytes:
    """Return a line that is no UTF-8."""
    return draw.choice(
        [
            "caf\u00e9".encode("latin-1"),
            "\u201cyes\u201d".encode("cp1252"),
            "\u65e5\u672c".encode("shift-jis"),
            "dog \u00e9".encode("utf-16"),
            b"\xed\xa0\x80 surrogate",
            b"\xc0\xafoverlong",
            b"cut \xf0\x9f\x98",
            b"\xff\xfe",
        ]
    )


def _one(draw: random.Random, sentences: Sequence[str]) -> str:
    return draw.choice(sentences)


def _words(draw: random.Random, sentences: Sequence[str], least: int, most: int) -> list[str]:
    words = [word.strip(".,").lower() for sentence in sentences for word in sentence.split()]
    return [draw.choice(words) for _ in range(draw.randint(least, most))]


def _capital(draw: random.Random, sentences: Sequence[str]) -> str:
    words = _words(draw, sentences, 2, 4)
    return f"{' '.join(words).capitalize()}{draw.choice('.!?')}"


def _with(*marks: str) -> Make:
    """Put a mark within a sentence, and another at an end of it."""

    def make(draw: random.Random, sentences: Sequence[str]) -> str:
        words = _words(draw, sentences, 3, 6)
        words.insert(draw.randint(1, len(words) - 1), draw.choice(marks))
        joint = draw.choice(["", " "])
        line = joint.join(words) if joint else "".join(f"{word} " for word in words[:2]) + "".join(words[2:])
        return draw.choice([f"{draw.choice(marks)}{line}", f"{line}{draw.choice(marks)}", line])

    return make


def _only(*marks: str) -> Make:
    return lambda draw, sentences: "".join(draw.choice(marks) for _ in range(draw.randint(1, 6)))


def _several(least: int, most: int, joint: str = " ") -> Make:
    return lambda draw, sentences: joint.join(_capital(draw, sentences) for _ in range(draw.randint(least, most)))


def _long(joint: str, least: int, most: int) -> Make:
    return lambda draw, sentences: joint.join(_words(draw, sentences, least, most))


def _pattern(*patterns: str) -> Make:
    """Fill A and B of a pattern with sentences, and W with a word."""

    def make(draw: random.Random, sentences: Sequence[str]) -> str:
        line = draw.choice(patterns).replace("A", _capital(draw, sentences))
        return line.replace("B", _capital(draw, sentences)).replace("W", _words(draw, sentences, 1, 1)[0])

    return make


_HAN = "\u6211\u4eec\u770b\u5230\u4e00\u53ea\u72d7\u5728\u6811\u4e0b\u8dd1"
_KANA = "\u3053\u308c\u306f\u72ac\u3067\u3059\u304b\u306d"


def _dense(letters: str, stops: str, least: int, most: int) -> Make:
    def make(draw: random.Random, sentences: Sequence[str]) -> str:
        return "".join(
            "".join(draw.choice(letters) for _ in range(draw.randint(2, 6))) + draw.choice(stops)
            for _ in range(draw.randint(least, most))
        )

    return make


KINDS: dict[str, Make] = {
    "as it should be": _one,
    "ends with a carriage return": lambda draw, sentences: f"{_one(draw, sentences)}\r",
    "ends with several carriage returns": lambda draw, sentences: f"{_one(draw, sentences)}\r\r\r",
    "carriage return within": _with("\r", "\r\r"),
    "byte order mark first": lambda draw, sentences: f"\ufeff{_one(draw, sentences)}",
    "byte order mark within": _with("\ufeff"),
    "NUL": _with("\0", "\0\0"),
    "U+2028": _with("\u2028"),
    "U+2029": _with("\u2029", "\u2029\u2029"),
    "next line": _with("\x85"),
    "vertical tab": _with("\x0b"),
    "form feed": _with("\x0c"),
    "file and record separators": _with("\x1c", "\x1d", "\x1e", "\x1f"),
    "escape sequence": _with("\x1b[31m", "\x1b[0m"),
    "end of file of DOS": _with("\x1a"),
    "backspace and bell": _with("\b", "\x07", "\x7f"),
    "C1 controls": _with("\x80", "\x90", "\x9f"),
    "empty": lambda draw, sentences: "",
    "blanks only": _only(" ", "\t", "\u00a0", "\u3000", "\u2003"),
    "invisible only": _only("\u200b", "\u200c", "\u200d", "\ufeff", "\u2060", "\u00ad"),
    "controls only": _only("\0", "\x07", "\x1b", "\x0b", "\x85", "\u2028", "\r"),
    "sub-word blank only": _only("\u2581", " "),
    "sub-word blank within": _with("\u2581"),
    "tabs": _with("\t", "\t\t"),
    "blanks around": lambda draw, sentences: f"  \t{_one(draw, sentences)}   ",
    "blanks without break": _with("\u00a0", "\u202f", "\u2007"),
    "soft hyphens and joiners": _with("\u00ad", "\u200c", "\u2060"),
    "emoji": _with(
        "\U0001f600", "\U0001f469\u200d\U0001f467", "\u2764\ufe0f", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea"
    ),
    "marks that combine": _with("e\u0301", "\u0301", "a\u0308\u0323", "\u00e9"),
    "right to left": _with(
        "\u200f", "\u202b\u0645\u0631\u062d\u0628\u0627\u202c", "\u0634\u0643\u0631\u0627\u061f \u0646\u0639\u0645."
    ),
    "private and no characters": _with("\ue000", "\ufdd0", "\ufdd1", "\uffff", "\U0010ffff"),
    "replacement characters": _with("\ufffd", "\u2047", "??"),
    "letters that become many": _with("\ufdfa", "\ufb03", "\u00bd", "\u2126"),
    "special tokens as text": _with("<s>", "</s>", "<pad>", "<unk>", "<0x0A>", "\u2581</s>"),
    "Chinese": _dense(_HAN, "\u3002\uff01\uff1f", 1, 3),
    "Japanese": _dense(_KANA, "\u3002\uff01\u3001", 1, 3),
    "Hindi": _pattern("\u092f\u0939 \u0939\u0948\u0964 \u0935\u0939 \u0939\u0948\u0964 A"),
    "Korean": _pattern("\uc548\ub155. \ub124. A"),
    "two sentences": _several(2, 2),
    "many sentences": _several(3, 6),
    "sentences with odd blanks": _several(2, 3, " \u00a0\t "),
    "sentences without blanks": _several(2, 3, ""),
    "abbreviations": _pattern("Mr. J. W met Dr. W. A", "z. B. W (ca. 3. Mai). A", "W at 5 p.m. in St. W. A"),
    "quotes and brackets": _pattern("\u201cA\u201d W (A B) W.", "\u201eA\u201c B", "\u00abA\u00bb W! B", '"A" "B"'),
    "stops that end nothing": _pattern("W... w. W", "W ! w ? W .", ". . . W .", "W.W.W", "... ? !"),
    "URLs and addresses": _pattern("See https://w.example/a?b=W.c!d#E. A", "W@w.example, A", "www.w.example/W. B"),
    "placeholders and markup": _pattern("{W} %d %s <b>A</b> &amp; B", "<a href='W'>A</a>", "$W ${W} %(W)s. B"),
    "numbers": _pattern("1,000.50 W. 3 W. A", "1. A 2. B", "12/31/1999 W 5%. A", "+49 (0) 30 W-W"),
    "JSON and code": _pattern('{"text": "W\\n", "n": [1, 2]}', "if (W) { return 'W'; } // A", "C:\\W\\n\\t"),
    "capitals": lambda draw, sentences: _one(draw, sentences).upper(),
    "punctuation only": _only(".", "!", "?", ",", "-", "\u2026", "\u3002"),
    "one letter": _only("a", "\u597d", "I", "7"),
    "long with commas": _long(", ", 25, 60),
    "long without stops": _long(" ", 30, 80),
    "long without blanks": _long("", 10, 40),
    "long address": lambda draw, sentences: f"https://w.example/{'/'.join(_words(draw, sentences, 20, 40))}?q=1",
    "long of many sentences": _several(12, 20),
    "long of clauses": _long("; ", 25, 50),
    "long Chinese": _dense(_HAN, "\uff0c\u3001", 10, 30),
    "long marks": _only("e\u0301" * 20, "\U0001f469\u200d\U0001f467" * 8, "\ufdfa" * 4),
}
