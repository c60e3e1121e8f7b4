# The reference app. Your own API takes the same shape: the kit is app/kit/ and registry/.
#   docker build -f Dockerfile.app -t doorman-app .
# The base: see Dockerfile.gateway.
ARG NODE_IMAGE=docker.io/library/node:24.21.0-bookworm-slim

FROM ${NODE_IMAGE} AS modules
WORKDIR /doorman
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
 && find node_modules -depth \( -type f \( -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -name '*.map' \
      -o -name '*.md' -o -name '*.markdown' \) -o -type d \( -name dist-types -o -name .github \) \) -exec rm -rf {} +

FROM ${NODE_IMAGE}
WORKDIR /doorman
ENV NODE_ENV=production NODE_COMPILE_CACHE=/doorman/.compile-cache
COPY --from=modules /doorman/node_modules node_modules
COPY package.json ./
# What both sides agree on. The control plane (registry/admin, cli, store, …) stays out.
COPY registry/lib registry/lib
COPY registry/context.ts registry/tenant.ts registry/
COPY app app
COPY deploy/image/healthcheck.ts deploy/image/healthcheck.ts
RUN install -d -o 1000 -g 1000 "$NODE_COMPILE_CACHE" \
 && for main in app/main.ts deploy/image/healthcheck.ts; do \
      setpriv --reuid=1000 --regid=1000 --clear-groups node "$main" >/dev/null 2>&1 || true; \
    done \
 && chown -R root:root "$NODE_COMPILE_CACHE" && chmod -R a+rX "$NODE_COMPILE_CACHE" \
 && test -n "$(find "$NODE_COMPILE_CACHE" -type f | head -n 1)"
USER 1000:1000
EXPOSE 3000 3001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["node", "deploy/image/healthcheck.ts", "3001"]
# Process 1 itself: it handles SIGTERM, and starts no children whose ends it would have to reap.
CMD ["node", "app/main.ts"]
