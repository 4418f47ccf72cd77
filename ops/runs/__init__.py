"""Runs of jobs and actions: locks, history, audit and progress."""
