# Two images of one tree: `docker build --target collector -t market-data-collector .` and `docker build -t market-data .`
# A collector needs neither pyarrow nor DuckDB, which are two thirds of the other image.
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS collector-packages
COPY requirements.txt .
RUN python -m venv --without-pip /venv \
    && grep -vE '^(duckdb|pyarrow)==' requirements.txt > collector.txt \
    && pip --python /venv/bin/python install --no-cache-dir -r collector.txt

FROM collector-packages AS packages
RUN pip --python /venv/bin/python install --no-cache-dir -r requirements.txt

FROM ${PYTHON} AS base
RUN groupadd --system --gid 990 collector && useradd --system --uid 990 --gid collector --home-dir /app collector \
    && mkdir /data && chown collector:collector /data
WORKDIR /app
COPY LICENSE config.json config.ftso.json ./
COPY adapters adapters
COPY collector collector
COPY master master
COPY simulator simulator
RUN python -m compileall -q .
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 COLLECTOR_SERVER__DATA=/data
USER 990:990
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m"]

FROM base AS collector
COPY --from=collector-packages /venv /venv
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["python", "-m", "collector", "health"]
CMD ["collector"]

FROM base AS market-data
COPY --from=packages /venv /venv
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["python", "-m", "master", "health"]
CMD ["master"]
