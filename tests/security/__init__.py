"""Attacks on the running platform after the loop's tests. Each is a row of a table: attempts, breaches and losses."""
