# millrace as a container, not root.
#
#   docker build -t millrace .
#   docker run --network host -v millrace:/var/lib/millrace --stop-timeout 20 millrace
#
# Without --network host clients are told the container's own address, which nobody reaches. Then
# publish each port under its own number and say where the outside is:
#
#   docker run -p 8080:8080 -p 8443:8443 -p 8189:8189/udp -p 8189:8189/tcp \
#     -p 8890:8890/udp -v millrace:/var/lib/millrace --stop-timeout 20 \
#     -e MILLRACE_NETWORK__PUBLIC_ADDRESSES=203.0.113.7 millrace
#
# `docker logs` shows the tokens; every option is a variable MILLRACE_SECTION__KEY.

FROM node:20-bookworm-slim AS pages
WORKDIR /build
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web ./
RUN npm run --silent build

FROM rust:1.95.0-bookworm AS server
# For SRT, and for the worker that transcodes.
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
    --no-install-recommends libsrt-gnutls-dev \
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
# The image's own compiler: rust-toolchain.toml would fetch its tools as well.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY signaling signaling
COPY loadtest loadtest
COPY tests tests
COPY configs configs
COPY --from=pages /build/dist web/dist
RUN cargo build --release --locked --package millrace --package millrace-transcode \
    && strip --strip-unneeded target/release/millrace target/release/millrace-transcode \
    && mkdir /state

# The authorities that are trusted, the library for SRT, and what transcodes: the releases that
# both programs were linked for.
FROM debian:bookworm-slim
RUN apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
    --no-install-recommends ca-certificates libsrt1.5-gnutls \
    gstreamer1.0-plugins-base gstreamer1.0-libav gstreamer1.0-plugins-ugly \
    && rm -rf /var/lib/apt/lists/*
COPY --from=server /build/target/release/millrace /build/target/release/millrace-transcode /usr/bin/
COPY configs/default.toml /etc/millrace/millrace.toml
COPY --from=server --chown=65532:65532 --chmod=700 /state /var/lib/millrace
ENV MILLRACE_SERVER__STATE_DIRECTORY=/var/lib/millrace
VOLUME /var/lib/millrace
EXPOSE 8080/tcp 8443/tcp 8189/udp 8189/tcp 1935/tcp 1936/tcp 8890/udp
USER 65532:65532
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["/usr/bin/millrace", "healthcheck", "--config", "/etc/millrace/millrace.toml"]
ENTRYPOINT ["/usr/bin/millrace", "--config", "/etc/millrace/millrace.toml"]
