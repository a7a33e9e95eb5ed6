"""The whole pipeline as a Ray job.

ray job submit --address http://127.0.0.1:8265 --working-dir . -- \\
    python jobs/run_pipeline.py --recipe toy --run /shared/runs/toy
"""

import sys

from stage import submit

if __name__ == "__main__":
    submit(["run"], sys.argv[1:], sys.argv[0])
