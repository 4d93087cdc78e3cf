"""Who survived the Titanic."""
