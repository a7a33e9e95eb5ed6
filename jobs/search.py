"""`hat-ray search` as a Ray job: python jobs/search.py --recipe toy --run /shared/runs/toy"""

from stage import submit

if __name__ == "__main__":
    submit("search")
