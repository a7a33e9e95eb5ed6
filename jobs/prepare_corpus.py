"""`hat-ray corpus` as a Ray job: python jobs/prepare_corpus.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("corpus")
