"""Backups that are proven: from one snapshot, with a manifest of what was in it, read back, restored and compared.

A backup is a dump and its manifest, which is written last: without one there is no backup. What later looks at it found
(a verification, a drill) lies beside it as a report.
"""
