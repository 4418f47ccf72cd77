"""Celery applications of the worker and the beat.

A new job is declared in `ops/catalogue/jobs.py`, with its function, and has a page in `docs/runbooks/`; nothing is
added here. A message may be delivered twice, so jobs are idempotent. `app/jobs/` enqueues a job by its name.
"""
