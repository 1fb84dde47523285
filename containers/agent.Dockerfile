# The agent's image. Everything in inputs/ serves the build alone: extra CA
# certificates, apt settings and an npm registry of the machine that builds.
FROM debian:12-slim
ARG UID
ARG GID
ARG CLAUDE_CODE_VERSION
COPY inputs/ /inputs/
RUN : install Debian packages; set -eu; \
    for list in /inputs/apt.sources /inputs/apt.list; do \
        if [ -s "$list" ]; then \
            mkdir -p /inputs/kept /etc/apt/sources.list.d; \
            for was in /etc/apt/sources.list /etc/apt/sources.list.d; do \
                if [ -e "$was" ]; then mv "$was" /inputs/kept/; fi; \
            done; \
            mkdir -p /etc/apt/sources.list.d; cp "$list" /etc/apt/sources.list.d/; \
        fi; \
    done; \
    if [ -s /inputs/apt.conf ]; then cp /inputs/apt.conf /etc/apt/apt.conf.d/99build; fi; \
    if [ -s /inputs/ca.pem ]; then echo 'Acquire::https::CAInfo "/inputs/ca.pem";' > /etc/apt/apt.conf.d/98build; fi; \
    printf 'path-exclude=/usr/share/%s/*\n' man locale > /etc/dpkg/dpkg.cfg.d/90slim; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get -q update; \
    apt-get -q install -y --no-install-recommends \
        nodejs npm busybox git ripgrep curl ca-certificates; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb \
        /etc/apt/apt.conf.d/98build /etc/apt/apt.conf.d/99build; \
    if [ -d /inputs/kept ]; then \
        rm -rf /etc/apt/sources.list.d; mv /inputs/kept/* /etc/apt/; \
    fi; \
    if [ -s /inputs/ca.pem ]; then \
        cp /inputs/ca/*.crt /usr/local/share/ca-certificates/; \
        update-ca-certificates >/dev/null 2>&1; \
    fi
# The package brings its large binary twice, and once more for another C
# library. This is mended in the layer that installs it, since a later layer
# could not give the space back.
RUN : install Claude Code; set -eu; \
    if [ -s /inputs/ca.pem ]; then export NODE_EXTRA_CA_CERTS=/inputs/ca.pem npm_config_cafile=/inputs/ca.pem; fi; \
    if [ -s /inputs/npm.registry ]; then npm_config_registry="$(cat /inputs/npm.registry)"; export npm_config_registry; fi; \
    npm install -g --prefix /usr/local --no-audit --no-fund --no-update-notifier --cache /inputs/npm \
        "@anthropic-ai/claude-code@${CLAUDE_CODE_VERSION}"; \
    cd /usr/local/lib/node_modules/@anthropic-ai; \
    find . -type d -name '*-musl' -prune -exec rm -rf {} +; \
    find . -type f -size +50M -exec sha256sum {} + | sort | { last=; while read -r sum file; do \
        if [ "$sum" = "$last" ]; then ln -f "$kept" "$file"; else last=$sum; kept=$file; fi; \
    done; }; \
    rm -rf /inputs /root/.npm /tmp/*; \
    DISABLE_AUTOUPDATER=1 claude --version
# A caller's ids may be taken by the base image: then its names stay.
RUN : make the user; set -eu; \
    getent group "$GID" >/dev/null || groupadd -g "$GID" agent; \
    getent passwd "$UID" >/dev/null || useradd --no-log-init -u "$UID" -g "$GID" -d /home/agent -m -s /bin/bash agent; \
    mkdir -p /home/agent; chown "$UID:$GID" /home/agent
ENV LANG=C.UTF-8
USER ${UID}:${GID}
WORKDIR /home/agent
CMD ["bash"]
