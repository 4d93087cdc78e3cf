"""Extract, validate, snapshot: from a project's source to an immutable, content-addressed data set."""
