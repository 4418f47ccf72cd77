"""Mending indexes: first a plan, a file that a person reads; then its steps, one at a time."""
