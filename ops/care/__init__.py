"""Upkeep: plain functions that work in batches, can be tried without changing anything, and return a report."""
