"""The registry: names without an import, foreign packages by entry point or by name, one line for every mistake."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from hat_ray.core.registry import Member, NameIn, Registry
from hat_ray.errors import PluginError

GROUP = "hat_ray.test_colours"


class Red:
    wave_nm = 700


class Faint:
    pass


def wave_of(plugin: type[Any]) -> int:
    return int(plugin.wave_nm)


def registry() -> Registry[type[Any], int]:
    members = {
        "red": Member(f"{__name__}:Red", 700),
        "gone": Member("hat_ray.no_such_module:Gone", 400),
    }
    return Registry("paint.colour", GROUP, members, wave_of, ("wave_nm",))


def install(folder: Path, package: str, points: str, source: str = "", provides: str | None = None) -> None:
    """Lay a package into a folder as an installer does: its module, and a .dist-info beside it."""
    module = provides or package
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "top_level.txt").write_text(f"{module}\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def refused(name: str, *, by: Registry[type[Any], int] | None = None, load: bool = False) -> str:
    colours = by or registry()
    with pytest.raises(PluginError) as caught:
        (colours.load if load else colours.require)(name)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_facts_and_names_of_own_members_import_nothing():
    colours = registry()
    assert colours.names == ("red", "gone")
    assert colours.facts("gone") == 400
    assert colours.load("red") is Red


def test_a_misspelt_name_is_refused_with_the_nearest_or_all():
    assert "did you mean red?" in refused("rde")
    assert "known are red, gone" in refused("ultraviolet")


def test_an_entry_point_is_found_and_its_facts_come_from_the_plug_in(site: Path):
    install(site, "paints", "blue = paints:Blue", "class Blue:\n    wave_nm = 450\n")
    colours = registry()
    assert colours.names == ("red", "gone", "blue")
    assert "paints" not in sys.modules
    assert colours.facts("blue") == 450
    assert "did you mean blue?" in refused("bleu", by=colours)


def test_a_broken_entry_point_is_named_when_asked_for_and_disturbs_no_other(site: Path):
    install(site, "paints2", "sky = paints2:Sky", "class Sky:\n    wave_nm = 470\n")
    install(site, "broken", "torn = broken:Torn", "raise OSError('no\\nbrush')\n")
    install(site, "absent", "lost = no_such_module_at_all:Lost")
    install(site, "hollow", "hollow = hollow:Hollow", "class Hollow: pass\n")
    colours = registry()
    assert colours.names == ("red", "gone", "hollow", "lost", "sky", "torn")
    assert "paint.colour torn cannot be loaded from package broken 1.0 (OSError: no brush)" in refused(
        "torn", by=colours, load=True
    )
    assert "ModuleNotFoundError" in refused("lost", by=colours, load=True)
    assert "it lacks wave_nm" in refused("hollow", by=colours, load=True)
    assert colours.facts("sky") == 470


def test_a_package_cannot_take_an_own_name_and_two_cannot_share_one(site: Path):
    install(site, "thief", "red = thief:Red", "class Red:\n    wave_nm = 1\n")
    install(site, "green1", "green = green1:Green", "class Green:\n    wave_nm = 1\n")
    install(site, "green2", "green = green2:Green", "class Green:\n    wave_nm = 2\n")
    colours = registry()
    assert colours.load("red") is Red
    assert "package green1 1.0, package green2 1.0" in refused("green", by=colours, load=True)


def test_a_spelled_name_is_loaded_from_an_installed_package(site: Path):
    install(site, "spelled-paints", "", "class Shades:\n    class Grey:\n        wave_nm = 0\n", provides="spelled")
    assert registry().facts("spelled:Shades.Grey") == 0
    assert "AttributeError" in refused("spelled:Missing", load=True)


@pytest.mark.parametrize("name", ["antigravity:fly", "os:system", "nowhere_at_all:Class"])
def test_modules_that_no_installed_package_provides_are_refused(name: str):
    before = set(sys.modules)
    assert "installed package" in refused(name)
    assert "antigravity" not in set(sys.modules) - before


def test_a_module_beside_the_recipe_is_refused_and_never_run(tmp_path: Path):
    (tmp_path / "evil.py").write_text("open('executed', 'w')\nclass Search:\n    wave_nm = 1\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from hat_ray.core.registry import Registry
from hat_ray.errors import PluginError
try:
    Registry("paint.colour", "none", {{}}, id).load("evil:Search")
except PluginError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True, cwd=tmp_path
    )
    assert "none provides evil" in done.stdout
    assert not (tmp_path / "executed").exists()


def test_a_package_that_is_installed_in_place_is_installed(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch):
    source = tmp_path / "work"
    source.mkdir()
    (source / "in_place.py").write_text("class Near:\n    wave_nm = 5\n")
    monkeypatch.syspath_prepend(str(source))
    assert "none provides in_place" in refused("in_place:Near")
    info = site / "in_place-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: in_place\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(f'{{"url": "{source.as_uri()}", "dir_info": {{"editable": true}}}}')
    assert registry().facts("in_place:Near") == 5
    monkeypatch.chdir(source)  # built-in modules have no file, and are not taken for files of the current folder
    assert "none provides sys" in refused("sys:exit")
    assert "none provides os" in refused("os:system")


@pytest.mark.parametrize("name", ["a:b:c", ":b", "a:", "a b:c", "../x:y", "a:b()"])
def test_a_spelled_name_has_one_form(name: str):
    assert "package:Class" in refused(name)


def test_a_plug_in_can_be_added_for_this_process():
    colours = registry()
    colours.add("pink", Red)
    assert colours.load("pink") is Red
    with pytest.raises(PluginError, match="registered already"):
        colours.add("red", Red)
    with pytest.raises(PluginError, match="lacks wave_nm"):
        colours.add("faint", Faint)


def test_a_setting_is_checked_and_its_schema_shows_the_names():
    kind = TypeAdapter(Annotated[str, NameIn(registry())])
    assert kind.validate_python("red") == "red"
    with pytest.raises(ValidationError, match="did you mean red"):
        kind.validate_python("rde")
    assert kind.json_schema()["anyOf"][0] == {"enum": ["red", "gone"]}
