"""What is evaluated, looked for in the training text; sweep/contamination.py reads what was found."""
