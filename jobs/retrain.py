"""`hat-ray retrain` as a Ray job: python jobs/retrain.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("retrain")
