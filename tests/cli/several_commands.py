"""Run several commands in one process, as `hat-ray` would each: their modules are imported once.

python several_commands.py PLAN.json RESULT.json    (a plan: [[name, [argument, ...], file of stdin], ...])
"""

import io
import json
import sys
import time
import traceback
from pathlib import Path

if __name__ == "__main__":
    from hat_ray.cli import main

    codes: dict[str, int | str] = {}
    for name, arguments, stdin in json.loads(Path(sys.argv[1]).read_text()):
        sys.stdin = io.TextIOWrapper(io.BytesIO(Path(stdin).read_bytes()))
        print(f"--- {name}, at {time.monotonic():.1f} s", file=sys.stderr, flush=True)
        try:
            main(arguments)
            codes[name] = 0
        except SystemExit as end:
            codes[name] = end.code or 0
        except BaseException:
            traceback.print_exc()
            codes[name] = "a traceback"
    Path(sys.argv[2]).write_text(json.dumps(codes))
