"""The command line in a process of its own, without its start: a server with everything imported forks one for each.

The process, its exit code, its traceback and its streams are real. What the start itself does (what is imported when,
from where) is the business of tests that start Python anew: `test_foreign_code.py`, `test_recipe_commands.py`.
"""

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

from hat_ray.cli import main
from tests.processes import SERVER, become

_NOBODY = 65534


def hat_ray(
    *arguments: str | Path,
    cwd: Path,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout: float = 240,
    without_rights: bool = False,
) -> CompletedProcess[str]:
    """Run `hat-ray` with arguments in a folder, as `subprocess.run` would; the environment is this process's.

    `without_rights`: of a process that is root's the command is nobody's, to whom a folder can be closed.
    """
    command = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        streams[0].write_bytes(stdin)
        process = SERVER.Process(
            target=_run, args=(command, str(cwd), dict(env or os.environ), list(map(str, streams)), without_rights)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        out, err = (stream.read_text(encoding="utf-8", errors="replace") for stream in streams[1:])
        return CompletedProcess(command, process.exitcode or 0, out, err)


def _run(
    command: list[str], folder: str, environment: dict[str, str], streams: list[str], without_rights: bool
) -> None:
    """Become the command: its streams, its folder, its environment."""
    for number, (path, flags) in enumerate(zip(streams, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2), strict=True)):
        os.dup2(os.open(path, flags), number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", closefd=False, errors=errors)  # noqa: SIM115
        for number, mode, errors in ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))
    )
    become(environment)
    os.chdir(folder)
    if without_rights and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    sys.argv = ["hat-ray", *command]
    main()
