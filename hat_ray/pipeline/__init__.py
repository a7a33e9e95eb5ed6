"""The stages of a recipe in order: finished ones are skipped, changed ones redone, killed ones resumed."""
