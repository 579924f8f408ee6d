# Three images from one file, each a target:
#   docker build -t sluice .                               gateway and chat page; neither torch nor vLLM (the default)
#   docker build -t sluice-worker --target worker-cpu .    vLLM for CPUs and the model that ships with Sluice
#   docker build -t sluice-worker --target worker-gpu .    vLLM for NVIDIA GPUs, likewise
# Base images are arguments, for places that keep images of their own. The build needs PyPI and npm alone, and
# for the workers Debian; no instruction needs more than a plain OCI builder.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG NODE_IMAGE=docker.io/library/node:22-bookworm-slim

FROM ${NODE_IMAGE} AS page
WORKDIR /web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci
COPY web ./
RUN npm run build

FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/sluice/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/sluice --shell /usr/sbin/nologin sluice
WORKDIR /var/lib/sluice
ENTRYPOINT ["sluice"]

# The dependencies of the base install and of Valkey, of which every image has the same versions: those that the
# engine wants.
FROM runtime AS base
RUN python -m venv /opt/sluice
COPY pyproject.toml engine_adapter/requirements/cpu.txt /tmp/base/
RUN cd /tmp/base \
 && python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; x = p['optional-dependencies']; \
      print(*p['dependencies'], *x['valkey'], sep='\n')" > base.txt \
 && pip install --constraint cpu.txt --requirement base.txt \
 && rm -r /tmp/base

FROM base AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY kernels kernels
COPY cache cache
COPY engine_adapter engine_adapter
COPY gateway gateway
COPY --from=page /web/dist gateway/page
RUN pip wheel --no-deps --wheel-dir /wheels .

# For workers: what their KV layer needs, and the engine. That is installed by the code behind `sluice
# install-engine`, of which only these files are copied: its layer of some gigabytes stays as it is when anything
# else changes.
FROM base AS installer
COPY pyproject.toml engine_adapter/requirements/cpu.txt /tmp/kv/
RUN cd /tmp/kv \
 && python -c "import tomllib; x = tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']; \
      print(*(d for d in x['kv'] if not d.startswith('sluice')), sep='\n')" > kv.txt \
 && pip install --constraint cpu.txt --requirement kv.txt \
 && rm -r /tmp/kv
COPY engine_adapter/__init__.py engine_adapter/install.py /installer/engine_adapter/
COPY engine_adapter/vllm/__init__.py engine_adapter/vllm/pin.py /installer/engine_adapter/vllm/
COPY engine_adapter/launch/__init__.py engine_adapter/launch/nvidia.py /installer/engine_adapter/launch/
COPY engine_adapter/requirements /installer/engine_adapter/requirements
RUN printf '%s\n' 'import sys' 'from engine_adapter import install' \
      'install.execute(install.plan(install.facts(), sys.argv[1]), print)' > /installer/install_engine.py

FROM installer AS worker-cpu
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libnuma1 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
RUN python /installer/install_engine.py cpu
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl
USER 10001
EXPOSE 8000
CMD ["worker", "--host", "0.0.0.0", "--port", "8000"]

# Triton compiles its launchers when they are first used, so a C compiler stays in this image. FlashInfer's kernels
# would want a CUDA toolkit as well (gigabytes): without one vLLM says so in its log and takes others.
FROM installer AS worker-gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
RUN python /installer/install_engine.py gpu
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl
USER 10001
EXPOSE 8000
CMD ["worker", "--host", "0.0.0.0", "--port", "8000"]

# Models are for workers.
FROM base AS gateway-environment
COPY pyproject.toml /tmp/extra/
RUN python -c "import tomllib; \
      print(*tomllib.load(open('/tmp/extra/pyproject.toml', 'rb'))['project']['optional-dependencies']['webrtc'], sep='\n')" \
      > /tmp/extra/webrtc.txt \
 && pip install --requirement /tmp/extra/webrtc.txt \
 && rm -r /tmp/extra
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl \
 && rm -rf /opt/sluice/lib/python3.*/site-packages/engine_adapter/demo/models \
 && pip uninstall --yes setuptools pip

FROM runtime AS gateway
COPY --from=gateway-environment /opt/sluice /opt/sluice
USER 10001
EXPOSE 8080
CMD ["serve"]
