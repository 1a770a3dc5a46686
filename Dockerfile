# syntax=docker/dockerfile:1
#
# Three images of one artefact; docs/deploy.md has every command.
#
#   docker buildx build --target layer --output dist .     dist/telemetryd-layer-<arch>.zip
#   docker buildx build --target extension --tag T .       /opt, to COPY into a function's image
#   docker buildx build --target daemon --tag T .          `telemetryd listen`, as a sidecar
#
# Add --platform linux/amd64,linux/arm64 for both architectures: what is compiled is cross-compiled,
# nothing that is built runs during the build, so no emulation is needed. None of the results
# contains a distribution.

# Builds, and names the packages the daemon's C library comes from: a Debian 12 with Python 3.11 or
# newer. The digest is that of its index, for all architectures.
ARG BASE_IMAGE=docker.io/library/python:3.13.16-slim-bookworm@sha256:a1165e272e578941b84abc79e4ab38a0305cd12803a5c4247979ac7655f4d641

ARG VERSION=0.1.0
ARG REVISION=unknown


FROM --platform=$BUILDPLATFORM ${BASE_IMAGE} AS build
ENV DEBIAN_FRONTEND=noninteractive
# No versions are pinned here: these tools leave no trace in the result, whose bytes the checksums in
# layer/sources.toml and requirements/layer*.txt decide.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends make perl unzip \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG TARGETARCH
# Stages of the build (CPython, OpenSSL, ...) are kept here; `docker builder prune` forgets them.
ARG LAYER_CACHE=/var/cache/telemetryd-layer
RUN --mount=type=cache,id=telemetryd-layer,target=/var/cache/telemetryd-layer \
    case "$TARGETARCH" in amd64) arch=x86_64 ;; *) arch=$TARGETARCH ;; esac \
 && python3 layer/build.py --arch "$arch" --cache "$LAYER_CACHE" --out /dist \
 && unzip -q "/dist/telemetryd-layer-$arch.zip" -d /opt-of-the-layer
# The daemon serves no function, so it has nothing that runs in the process of one.
RUN cp --archive /opt-of-the-layer /opt-of-the-daemon \
 && rm --recursive /opt-of-the-daemon/telemetryd/wrap /opt-of-the-daemon/telemetryd/internal
# What the daemon needs besides: the C library of its architecture, a user, /tmp, and a directory for
# files and spools. The library is unpacked, not installed, so it may be for another machine.
WORKDIR /root-of-the-daemon
# hadolint ignore=DL3008
RUN dpkg --add-architecture "$TARGETARCH" \
 && apt-get update \
 && apt-get download "libc6:$TARGETARCH" \
 && rm -rf /var/lib/apt/lists/* \
 && dpkg-deb --extract libc6_*.deb . \
 && rm libc6_*.deb \
 && find . ! -type d ! -name 'ld-linux-*' ! -name 'lib[cm].so.6' ! -name libdl.so.2 \
      ! -name libpthread.so.0 ! -name libutil.so.1 ! -path './usr/share/doc/libc6/copyright' -delete \
 && find . -type d -empty -delete \
 && mkdir etc \
 && echo 'telemetryd:x:65532:65532::/var/lib/telemetryd:/nologin' > etc/passwd \
 && echo 'telemetryd:x:65532:' > etc/group \
 && install --directory --mode=1777 tmp \
 && install --directory --owner=65532 --group=65532 var/lib/telemetryd


FROM scratch AS layer
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="telemetryd layer" \
      org.opencontainers.image.description="The zip of telemetryd's Lambda layer, and its bill of materials" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /dist/ /


FROM scratch AS extension
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="telemetryd extension" \
      org.opencontainers.image.description="telemetryd as a Lambda extension: COPY --from=<this> /opt /opt" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt-of-the-layer/ /opt/


# The last target, and so the one that is built where none is named.
FROM scratch AS daemon
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="telemetryd" \
      org.opencontainers.image.description="TCP NDJSON telemetry listener: every line delivered to the configured sinks and accounted for" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /root-of-the-daemon/ /
COPY --from=build /opt-of-the-daemon/ /opt/
# The network of a container is its own: what is published decides who reaches the port.
ENV TELEMETRYD_TELEMETRY__HOST=0.0.0.0 \
    PATH=/opt/extensions
USER 65532:65532
WORKDIR /var/lib/telemetryd
EXPOSE 4243/tcp
STOPSIGNAL SIGTERM
# Whether it answers at all: a sink that is down is no reason to restart what keeps lines for it.
# On a fourteenth of a processor the probe's own start takes up to three seconds.
HEALTHCHECK --interval=15s --timeout=10s --start-period=5s --retries=3 \
    CMD ["telemetryd", "health", "--alive"]
ENTRYPOINT ["telemetryd"]
CMD ["listen"]
