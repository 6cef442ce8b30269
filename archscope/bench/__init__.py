"""Short trainings that can be compared: data, recipes, one flat loop, and rows that say how each figure came about."""
