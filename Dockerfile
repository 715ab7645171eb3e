# IMAGE collector [options]   or   IMAGE master [options]
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /app
COPY requirements.txt .
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --no-compile -r requirements.txt

FROM ${PYTHON}
RUN groupadd --system --gid 990 collector && useradd --system --uid 990 --gid collector --home-dir /app collector \
    && mkdir /data && chown collector:collector /data
WORKDIR /app
COPY --from=build /venv /venv
COPY LICENSE config.json config.ftso.json ./
COPY adapters adapters
COPY collector collector
COPY master master
COPY simulator simulator
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 COLLECTOR_SERVER__DATA=/data
USER collector
VOLUME /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m"]
CMD ["collector", "--help"]
