# Two images from one file: `api` (no torch) and `worker`.
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# the data sets are mounted at /data, checkpoints lie in /artifacts, uploads in /uploads; all must exist with this owner before a volume covers them
RUN groupadd --gid 10001 nasatlas \
    && useradd --uid 10001 --gid 10001 --create-home nasatlas \
    && mkdir -p /srv/nasatlas /artifacts /uploads /data \
    && chown nasatlas:nasatlas /artifacts /uploads
WORKDIR /srv/nasatlas
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY pyproject.toml constraints.txt README.md LICENSE ./

FROM base AS api
COPY app app
COPY migrations migrations
RUN pip install --quiet -c constraints.txt -e .
# where the command below listens: callers need keys, unless NASATLAS_AUTHENTICATION says otherwise
ENV NASATLAS_HOST=0.0.0.0
# one API process is one core; what they count is added up in a directory that they share
ENV WEB_CONCURRENCY=2 PROMETHEUS_MULTIPROC_DIR=/srv/nasatlas/metrics
RUN mkdir metrics && chown nasatlas:nasatlas metrics
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["uvicorn", "--factory", "app.main:served_app", "--host", "0.0.0.0", "--port", "8000", "--loop", "app.server_loop:ServerLoop", "--timeout-graceful-shutdown", "5", "--timeout-worker-healthcheck", "15"]

FROM base AS worker
# the packages first: they are large and change seldom
RUN mkdir app worker migrations && pip install --quiet -c constraints.txt -e '.[worker]'
COPY app app
COPY migrations migrations
COPY worker worker
RUN pip install --quiet --no-deps -c constraints.txt -e '.[worker]'
USER 10001:10001
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s \
    CMD ["sh", "-c", "celery -A worker.celery_app inspect ping --timeout 20 --destination celery@$(hostname)"]
CMD ["nasatlas", "worker"]
