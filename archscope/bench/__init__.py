"""Short, comparable trainings: data, recipes, one training loop, and rows that record how each result was made."""
