"""Commands that messages propose can be pasted into a shell, wherever the user's folders are."""

import re
import shlex
from pathlib import Path

import pytest

import hat_ray
from hat_ray.pipeline.kept import KeptResult, disk_line
from hat_ray.pipeline.places import Place, why_no_weights

ROOT = Path(hat_ray.__file__).parent
ODD = "runs/my %20 run#1; x"


def pasted(line: str | None) -> list[str]:
    command = re.search("`(hat-ray [^`]*)`", line or "")
    assert command
    return shlex.split(command[1], comments=True)


@pytest.mark.parametrize("found", [Place.ARCHITECTURE, Place.FOREIGN])
def test_a_place_with_blanks_and_signs_is_one_word(found: Place, tmp_path: Path):
    place = tmp_path / ODD.replace("/", "-")
    place.mkdir()
    assert str(place) in pasted(why_no_weights(str(place), found))


def test_the_folder_of_earlier_results_is_one_word():
    kept = [KeptResult("corpus", "0123", True, 7, "runs/x/kept/0123")]
    assert pasted(disk_line(kept, ODD)) == ["hat-ray", "run", "clean", ODD]


def test_every_message_quotes_the_places_in_its_commands():
    shown = re.compile(r"`hat-ray (?:[a-z]+ )+\{(?!shlex\.quote\()|next: [a-z-]+ (?:-?[a-z]+ )*\{(?!shlex\.quote\()")
    bare = {
        (path.name, found[0])
        for path in ROOT.rglob("*.py")
        for found in shown.finditer(path.read_text(encoding="utf-8"))
    }
    assert not bare
