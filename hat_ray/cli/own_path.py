"""Import nothing from the current folder: a user in a folder that came from outside must not run its files.

`python -m hat_ray.cli` puts the current folder first on `sys.path`, and an empty entry of PYTHONPATH puts it somewhere.
A checkout that hat-ray itself is imported from stays.
"""

import os
import sys

import hat_ray


def leave_current_folder_out() -> None:
    """Take the current folder off the search path of this process and of those that it starts."""
    here = os.path.realpath(os.curdir)
    if here == os.path.dirname(os.path.dirname(os.path.realpath(hat_ray.__file__))):
        return
    sys.path[:] = [place for place in sys.path if os.path.realpath(place or os.curdir) != here]
    if wanted := os.environ.get("PYTHONPATH"):
        kept = [place for place in wanted.split(os.pathsep) if os.path.realpath(place or os.curdir) != here]
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)


if sys.argv[:1] == ["-m"]:  # before anything else is imported
    leave_current_folder_out()
if os.path.basename(sys.argv[0] if sys.argv else "") in ("-m", "hat-ray"):
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while all else is imported ends it quietly
