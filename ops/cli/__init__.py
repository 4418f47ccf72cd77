"""The commands `flask ops`, `flask db` and `flask chat`, registered as entry points in pyproject.toml."""
