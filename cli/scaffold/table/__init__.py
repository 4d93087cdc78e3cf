"""Renders the files of a project from a table: one module per file."""
