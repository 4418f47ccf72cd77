"""Benchmarks, run by hand: `make bench`. They print and judge nothing; what is compared is compared within one run."""
