"""Celery jobs: thin, explicit, each calling one function of `ops` or `app`.

A new job is declared in `ops/catalogue.py`, made of a function by `tasks.base.job` in a module that `tasks/worker.py`
names, and has a page in `docs/runbooks/`. It may run twice for one message. `app/jobs.py` asks for it by its name.
"""
