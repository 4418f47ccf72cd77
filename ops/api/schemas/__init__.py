"""What the admin API reads and tells, one module for each blueprint."""
