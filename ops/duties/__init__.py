"""What somebody should look at every day, week and month, done by the beat and kept in the history of jobs.

A duty is a list of named parts (`ops/catalogue.py`). Each part asks checks, or tells figures, or both.
"""
