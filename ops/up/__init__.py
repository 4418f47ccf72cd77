"""`make up`: the whole platform on one machine, started in order and stopped in order."""
