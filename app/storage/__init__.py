"""Stores of named files: a folder, or a bucket of S3 or a compatible service.

A store does not depend on the files' contents. Backups are the first user; users' files come next.
"""
