# Builds an image of the service with the models of this repository.
# The base can be any image with Python 3.11 or newer and venv:
#   docker build -t layertap:0.1.0 .
#   docker build -t layertap:0.1.0-cuda --build-arg EXTRA=cuda .    with CUDA and cuDNN; the host provides the driver
ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build
# Build of onnxruntime: cpu or cuda.
ARG EXTRA=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/build/constraints.txt
WORKDIR /build
RUN python3 -m venv /opt/layertap
COPY constraints.txt pyproject.toml README.md CHANGELOG.md LICENSE ./
# Copy only the file with the version: a change of the code then does not reinstall the dependencies.
COPY client/layertap/__init__.py client/layertap/
RUN mkdir -p server/layertap_server && /opt/layertap/bin/pip install ".[${EXTRA},otel]"
COPY client client
COPY server server
RUN /opt/layertap/bin/pip install --no-deps --force-reinstall . \
    && /opt/layertap/bin/pip check \
    && /opt/layertap/bin/pip uninstall --yes setuptools pip \
    && cd /opt/layertap/lib/python3*/site-packages \
    && rm -rf onnx/backend/test onnxruntime/transformers onnxruntime/quantization onnxruntime/tools \
    && find numpy onnx google -depth -type d -name tests -exec rm -r {} +

FROM ${BASE_IMAGE}
# A venv cannot be moved, so both stages have the same base and the same path.
COPY --from=build /opt/layertap /opt/layertap
COPY models /models
# Without this, onnxruntime sends usage data to its developers.
ENV ORT_DISABLE_TELEMETRY=1
ENV PATH=/opt/layertap/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    LAYERTAP_MODELS=/models \
    LAYERTAP_HOST=0.0.0.0 \
    LAYERTAP_PORT=8001 \
    LAYERTAP_METRICS_PORT=8002
USER 10001:10001
EXPOSE 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "layertap_server.healthcheck"]
CMD ["layertap", "serve"]
