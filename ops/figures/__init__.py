"""What is counted by PostgreSQL, written down every hour, so that a window of time can be told."""
