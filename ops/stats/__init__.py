"""Statistics of statements and tables, recorded every hour and compared over time."""
