"""Remove expired objects from the store, and erase single rows."""
