"""The doctor: all checks, and running them."""
