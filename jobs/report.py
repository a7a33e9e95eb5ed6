"""`hat-ray report` as a Ray job: python jobs/report.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("report")
