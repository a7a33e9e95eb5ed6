"""How well inherited weights rank architectures, and which training policy makes them rank better."""
