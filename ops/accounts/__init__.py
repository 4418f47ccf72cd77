"""Accounts as operators look after them: who there is, who may what, and what a person may ask of their data."""
