# The command in an image: docker build -t embedding-integrity .
#   docker run --rm --env-file .env -v "$PWD:/project" embedding-integrity --remediate --dry-run
# The endpoint, with a health of its own: docker build --target admin -t embedding-integrity-admin .
# What is built is what constraints.txt pins; the image holds no compiler, no pip cache and no curl.

FROM python:3.12.12-slim-bookworm AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/embedding-integrity \
    && /opt/embedding-integrity/bin/pip install --no-cache-dir --disable-pip-version-check \
        -c constraints.txt '.[admin,distributed]'

FROM python:3.12.12-slim-bookworm AS command
COPY --from=build /opt/embedding-integrity /opt/embedding-integrity
# A number, so that an orchestrator can tell that it is not root.
RUN useradd --uid 10001 --no-create-home --home-dir /project integrity \
    && install -d -o integrity -g integrity /project
ENV PATH=/opt/embedding-integrity/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
# Holds integrity.toml; reports go to its folder incidents/.
WORKDIR /project
ENTRYPOINT ["embedding-integrity"]

FROM command AS admin
EXPOSE 8765
# Asks the service that runs in this container, with no other tool.
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s --retries=3 CMD ["embedding-integrity", "admin", "--health"]
CMD ["admin", "--host=0.0.0.0"]

# What is built where no target is named. A run ends by itself, and its exit status is its health.
FROM command
HEALTHCHECK NONE
