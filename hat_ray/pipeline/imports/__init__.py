"""What others made, brought in: recipes of HAT, trained SuperTransformers as run folders, trained models."""
