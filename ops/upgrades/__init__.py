"""What the next `flask db upgrade` would do to the tables that are there."""
