"""Generators of the pages and files that are written from code."""
