# The exporter's image: built on Rust's image of the Debian release it runs on, so that the C library is the same.
# BuildKit (Docker 23 and later) builds it: `docker build -t fleet-query-exporter .`

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The two caches survive a changed source file: then only our own crates are compiled again. What is in a cache is not
# in the image, hence the copy.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p fleet-query-exporter \
 && install -D target/release/fleet-query-exporter /out/fleet-query-exporter

FROM debian:bookworm-slim
# The public root certificates are compiled into the binary; the file is here for `ca = "/etc/ssl/certs/ca-certificates.crt"`,
# and as the place where an image built on this one adds its own.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/fleet-query-exporter /usr/local/bin/fleet-query-exporter
# A number, so that a cluster can see that it is not root. It owns nothing and writes nothing.
USER 65532:65532
# Not an argument, so that the health check, and `docker run … --check`, read the same file.
ENV FLEET_QUERY_EXPORTER_CONFIG=/etc/fleet-query-exporter/fleet.toml
EXPOSE 9104
HEALTHCHECK --interval=5s --timeout=6s --start-period=10s --retries=3 \
  CMD ["/usr/local/bin/fleet-query-exporter", "health"]
ENTRYPOINT ["/usr/local/bin/fleet-query-exporter"]
