"""Many architectures: every point of a grid, or what a search draws from a space."""
