"""`hat-ray evaluate` as a Ray job: python jobs/evaluate.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("evaluate")
