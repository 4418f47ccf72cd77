"""Verified backups: one snapshot, a manifest of its contents, reading back, and restore drills.

A backup is a dump and its manifest. The manifest is written last, so a dump without one is not a backup. Results of
later verifications and drills are stored beside the backup as reports.
"""
