"""`phaseflow new`: a tabular project from a CSV file."""
