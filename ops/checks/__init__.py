"""What the doctor asks: one module for each concern. The thresholds of a check stand beside it."""
