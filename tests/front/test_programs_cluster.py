"""Thousands of lines of every kind through the command, an exported translate.py and the service as a process."""

from pathlib import Path

import pytest

from tests.exported import Exported
from tests.front.hostile import KINDS, hostile_lines
from tests.front.programs import command, exported_program, of_service
from tests.serve.service import running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
pytest.importorskip("fastapi", reason="needs ray[serve]")

COUNT = 2_400


@pytest.mark.parametrize("runtime", ["exported", "exported_ct2"])
def test_three_programs_give_the_same_for_thousands_of_lines(
    runtime: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    exported: Exported = request.getfixturevalue(runtime)
    lines = hostile_lines(exported.lines, COUNT, seed=9)
    content = "".join(f"{line.text}\n" for line in lines).encode()
    one, other = command(exported.folder, content), exported_program(exported.folder, content)
    assert (one.returncode, other.returncode) == (0, 0), (one.stderr, other.stderr)
    with running(exported.folder, tmp_path) as service:

        def ask(body: object) -> dict[str, object]:
            answer = service.ask(body)
            assert answer.status == 200, answer.body
            return answer.body

        said = of_service(ask, [line.text for line in lines], [1, 20, 3, 8])
    ours, theirs = (done.stdout.decode().split("\n")[:-1] for done in (one, other))
    assert len(ours) == len(theirs) == len(said) == COUNT
    differ = {line.kind: found for line, *found in zip(lines, ours, theirs, said, strict=True) if len(set(found)) > 1}
    assert not differ
    assert {line.kind for line in lines} == set(KINDS)
