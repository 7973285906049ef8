# A trained network as a web page and POST /predict, on the CPU (docs/serve.md):
#   docker build -t mslab .
#   docker run --rm --init -p 127.0.0.1:8000:8000 -v "$PWD/runs/NAME/checkpoints/best.ckpt:/network.ckpt:ro" mslab
# then open http://127.0.0.1:8000/. Another file or other options come at the end, file first:
#   docker run … -v "$PWD/best.onnx:/best.onnx:ro" mslab /best.onnx --allow-origin https://lab.example.edu
FROM python:3.11-slim

# libgomp1: MindSpore's threads
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

# the packages first: they change less often than mslab, and MindSpore alone is 770 MB
WORKDIR /opt/mslab
COPY pyproject.toml setup.py README.md LICENSE constraints.txt ./
COPY mslab/__init__.py mslab/__init__.py
RUN pip install --no-cache-dir -c constraints.txt .
COPY mslab mslab
RUN pip install --no-cache-dir --no-deps --force-reinstall .

# uploads are decoded in processes without rights; /tmp is all that the server writes to
RUN useradd --create-home --uid 1000 mslab
USER mslab
WORKDIR /home/mslab

EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]

# inside a container 127.0.0.1 is reachable from nowhere; -p says who reaches the port
ENTRYPOINT ["mslab", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/network.ckpt"]
