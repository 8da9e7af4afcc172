"""What linear-Gaussian state space models are made of: their data, their sums, and the way through time."""
