"""Fake servers on loopback, for the providers, poolers and networks that Parley connects to."""
