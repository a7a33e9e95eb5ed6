"""`hat-ray predict fit` as a Ray job: python jobs/fit_predictor.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("predict", "fit")
