"""A translation service on Ray Serve as a Ray job: `hat-ray serve` on the cluster that runs the job.

ray job submit --address http://127.0.0.1:8265 --working-dir . -- \
    python jobs/serve.py /shared/runs/toy --runtime onnx --dtype int8 --replicas 2

The place must be one that all nodes reach. `python jobs/serve.py --help` lists the options; stopping the job stops the
service.
"""

import sys
from pathlib import PurePosixPath

if __name__ == "__main__":
    arguments = sys.argv[1:]
    places = [argument for argument in arguments[:1] if not argument.startswith("-")]
    if not places and not {"-h", "--help"} & set(arguments):
        sys.exit(f"usage: {sys.argv[0]} RUN_OR_EXPORT [options]; --help lists them")
    if places and "://" not in places[0] and not PurePosixPath(places[0]).is_absolute():
        sys.exit(f"the model's place must be an absolute path or a URI that all nodes reach, got {places[0]!r}")
    from hat_ray.cli import main  # heavy: a wrong call is refused before

    main(["serve", *arguments])
