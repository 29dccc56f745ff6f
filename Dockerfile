# The image of tallygate: one program, whose part is chosen by the command (proxy, ledger, admin,
# serve). Built by `docker build .`; the classic builder is enough.
#
#   BASE      any image with Python 3.11 and its venv module
#   wheels/   a folder beside this file with the wheels of requirements.lock and
#             requirements-tools.lock: where it is there, nothing is downloaded. The hashes of the
#             locks are checked either way.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /build
# uv and setuptools, which build and install, stay in this stage.
COPY requirements.lock requirements-tools.lock wheels* /build/
RUN set -eu; \
    python3 -m venv /build/tools; \
    if ls /build/*.whl >/dev/null 2>&1; then offline="--no-index --find-links /build"; fi; \
    /build/tools/bin/pip install --disable-pip-version-check --no-cache-dir --only-binary :all: \
        --require-hashes ${offline:-} --requirement requirements-tools.lock; \
    python3 -m venv --without-pip /opt/tallygate; \
    /build/tools/bin/uv pip install --python /opt/tallygate/bin/python --no-config --no-cache \
        --only-binary :all: --link-mode copy --compile-bytecode \
        --require-hashes ${offline:-} --requirement requirements.lock
# The project itself comes last: a change in it does not install its dependencies again.
COPY pyproject.toml README.md LICENSE /build/source/
COPY schemas /build/source/schemas
COPY services /build/source/services
COPY prices /build/source/prices
RUN set -eu; \
    /build/tools/bin/pip wheel --disable-pip-version-check --no-cache-dir --no-index --no-deps \
        --no-build-isolation --wheel-dir /build/dist /build/source; \
    /build/tools/bin/uv pip install --python /opt/tallygate/bin/python --no-config --no-cache \
        --no-index --no-deps --link-mode copy --compile-bytecode /build/dist/tallygate-*.whl

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tallygate" \
      org.opencontainers.image.description="An event-sourced gateway between Claude Code and the Anthropic API" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The numbers are fixed, so that a volume or a host folder can be given to this user by number.
RUN groupadd --gid 10001 tallygate \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home \
        --shell /usr/sbin/nologin tallygate \
    && install --directory --mode 0700 --owner 10001 --group 10001 /data /data/archive /data/parquet
COPY --from=build /opt/tallygate /opt/tallygate
COPY config.example.yaml /etc/tallygate/config.yaml
COPY containers/healthcheck.py /opt/tallygate/healthcheck.py
# PYTHONDONTWRITEBYTECODE: the root file system is meant to be read-only.
ENV PATH=/opt/tallygate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/data \
    TALLYGATE_HEALTH_URL=http://127.0.0.1:4000/health/readiness
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 4000
STOPSIGNAL SIGTERM
# A part that serves no HTTP (the ledger) sets TALLYGATE_HEALTH_URL to nothing.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/opt/tallygate/bin/python", "/opt/tallygate/healthcheck.py"]
ENTRYPOINT ["tallygate"]
CMD ["serve", "--config", "/etc/tallygate/config.yaml", "--data", "/data", "--host", "0.0.0.0", "--port", "4000"]
