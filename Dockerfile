# The image of every coinstream process: one program, as uid 10001, nothing to write to, nothing to build with.
#
# Behind a mirror of the package index give pip's settings as a secret, which no layer keeps:
#   docker build --secret id=pip,src=pip.conf .
ARG BASE=python:3.11.15-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# pip stays in an environment of this stage; the one that is copied into the image never holds it.
RUN python -m venv /build/tools && python -m venv --without-pip /opt/coinstream
COPY requirements.build.lock requirements.production.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    tools/bin/pip install --require-hashes --only-binary :all: --requirement requirements.build.lock \
    && tools/bin/pip --python /opt/coinstream/bin/python install --require-hashes --no-deps --only-binary :all: \
        --requirement requirements.production.lock
COPY LICENSE README.md pyproject.toml ./
COPY src src
RUN tools/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir wheels . \
    && tools/bin/pip --python /opt/coinstream/bin/python install --no-index --no-deps wheels/coinstream-*.whl

FROM ${BASE}
# The base brings pip and its like; a process that was broken into shall not find them.
RUN rm -rf /usr/local/lib/python3.*/site-packages/* /usr/local/lib/python3.*/ensurepip \
        /usr/local/bin/pip* /usr/local/bin/wheel \
    && groupadd --gid 10001 coinstream \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin coinstream
COPY --from=build /opt/coinstream /opt/coinstream
# PYTHONDONTWRITEBYTECODE: the byte code is in the image, and the file system may be read-only.
ENV PATH=/opt/coinstream/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    COINSTREAM_METRICS_HOST=0.0.0.0 \
    COINSTREAM_METRICS_PORT=9100
USER 10001:10001
WORKDIR /opt/coinstream
# SIGTERM drains: what was received is stored or acknowledged first. Give it time (`docker stop --time 60`).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --retries=3 CMD ["coinstream-health"]
ENTRYPOINT ["coinstream"]
CMD ["--help"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="coinstream" \
    org.opencontainers.image.description="Cryptocurrency market and user data: exchanges to Kafka to PostgreSQL and MongoDB" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
