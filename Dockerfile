# syntax=docker/dockerfile:1
#
#   docker build --target cpu -t plimsoll:0.1.0 .
#   docker build --target cuda -t plimsoll:0.1.0-cuda .       # with CUDA's libraries; x86_64
#
# With a bill of materials: `docker buildx build --sbom=true --provenance=true ...` attaches one of the whole image. The crates are
# in it because `cargo auditable` writes their list into the binary, the C libraries because their dpkg records are kept.

FROM rust:1.95-bookworm AS build
WORKDIR /src
RUN cargo install --locked --version 0.7.7 cargo-auditable
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo auditable build --release --locked -p plimsoll-proxy && \
    install -D -m 0755 target/release/plimsoll /out/plimsoll

FROM python:3.11-slim-bookworm AS onnxruntime
WORKDIR /src
COPY tests/setup/lib.sh tests/setup/onnxruntime.sh tests/setup/onnxruntime.txt tests/setup/
RUN tests/setup/onnxruntime.sh

FROM python:3.11-slim-bookworm AS onnxruntime-cuda
WORKDIR /src
COPY tests/setup/onnxruntime-gpu.txt tests/setup/
RUN python3 -m pip install --quiet --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
      --target wheels --requirement tests/setup/onnxruntime-gpu.txt && \
    mkdir -p .runtime && \
    find wheels/nvidia -name '*.so.*' -exec mv -t .runtime {} + && \
    mv wheels/onnxruntime/capi/libonnxruntime_providers_cuda.so wheels/onnxruntime/capi/libonnxruntime_providers_shared.so .runtime/ && \
    mv wheels/onnxruntime/capi/libonnxruntime.so.* .runtime/libonnxruntime.so

FROM debian:bookworm-slim AS rootfs
COPY charts/image/rootfs.sh /
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && \
    /rootfs.sh /rootfs && rm -rf /var/lib/apt/lists/*

# What both variants are: no shell, no package manager, an ordinary user.
# checkov:skip=CKV_DOCKER_2: Kubernetes heeds its own probes, and there is nothing in the image to ask with
FROM scratch AS runtime
COPY --from=rootfs /rootfs /
COPY --from=build /out/plimsoll /usr/local/bin/plimsoll
COPY LICENSE /usr/share/doc/plimsoll/
COPY engine/demo/model /models/demo
ENV ORT_DYLIB_PATH=/opt/onnxruntime/libonnxruntime.so
WORKDIR /home/plimsoll
USER 65532:65532
EXPOSE 7480 7490
ENTRYPOINT ["/usr/local/bin/plimsoll"]
CMD ["serve", "--config", "/etc/plimsoll/config.yaml"]

FROM runtime AS cuda
COPY engine/demo/cuda-fp16 /models/demo-cuda
COPY --from=onnxruntime-cuda /src/.runtime /opt/onnxruntime
# `utility` brings NVML, which tells the memory; the cache of compiled kernels needs a place that can be written.
ENV LD_LIBRARY_PATH=/opt/onnxruntime \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_CACHE_PATH=/tmp/cuda

# Last: what a build without `--target` makes.
FROM runtime AS cpu
COPY --from=onnxruntime /src/.runtime /opt/onnxruntime
