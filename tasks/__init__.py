"""Celery jobs: thin, explicit, each calling one function of `ops` or `app`."""
