# The service with the models that ship. Any Python 3.11 or newer with venv serves as the base:
#   docker build --build-arg BASE_IMAGE=python:3.12-slim-bookworm .
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
WORKDIR /build
RUN python3 -m venv /opt/layertap
COPY constraints.txt ./
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY client client
COPY server server
RUN /opt/layertap/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[server]'

FROM ${BASE_IMAGE}
# A venv runs where it was made: both stages have the same base and the same path.
COPY --from=build /opt/layertap /opt/layertap
COPY models /models
ENV PATH=/opt/layertap/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LAYERTAP_MODELS=/models \
    LAYERTAP_HOST=0.0.0.0 \
    LAYERTAP_PORT=8001 \
    LAYERTAP_METRICS_PORT=8002
USER 10001:10001
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "layertap_server.healthcheck"]
CMD ["layertap", "serve"]
