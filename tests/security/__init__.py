"""Attacks on the platform that the loop's tests have left running. Each is a row of a table: tried, got in, lost."""
