"""Extract, validate, snapshot: turn a project's source into an immutable, content-addressed dataset."""
