"""Celery's side of the jobs: how a worker and a beat are put together, and what surrounds every run.

A new job is declared in `ops/catalogue.py`, which names its function, and has a page in `docs/runbooks/`; nothing is to
be added here. It may run twice for one message. `app/jobs.py` asks for it by its name.
"""
