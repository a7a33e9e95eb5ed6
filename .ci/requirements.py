"""Print the requirements of an environment, from pyproject.toml. usage: requirements.py minimal|lowest

minimal: what hat-ray needs, without Ray and the optional CTranslate2. lowest: each at the lowest version allowed.
"""

import re
import sys
import tomllib
from pathlib import Path

EXTRAS = ("serve", "ctranslate2", "vocabularies")
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "cloudpickle")


def requirements(kind: str) -> list[str]:
    """Return the requirements of an environment, those of the tests included."""
    file = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    needed, extras = project["dependencies"], project["optional-dependencies"]
    tools = [one for one in extras["dev"] if re.split(r"[\[<>=]", one)[0] in TOOLS]
    if kind == "minimal":
        return [*(one for one in needed if not one.startswith("ray[")), *tools]
    return [*map(lowest, [*needed, *(one for name in EXTRAS for one in extras[name])]), *tools]


def lowest(requirement: str) -> str:
    """Return a requirement `name>=1.2,<3` as `name==1.2`."""
    return re.sub(r">=([\d.]+).*", r"==\1", requirement)


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(sys.argv[1])) + "\n")
