"""Work with models that are trained: one model for itself, and teachers of others."""
