"""Daily, weekly and monthly routines: reports for operators, run by the beat and kept as job runs."""
