"""`python -m hat_ray.cli` is `hat-ray`."""

from hat_ray.cli import main

if __name__ == "__main__":
    main()
