# Triptych with vLLM on CUDA, in the versions of docs/versions.md. This file has not been built: there was no machine for it.
#
#     docker build -t triptych .
#     docker run --gpus all --ipc host -v "$PWD":/data -w /data triptych train --data rows.jsonl --model Qwen/Qwen2.5-VL-3B-Instruct
# The CUDA that torch 2.13 brings, which vLLM 0.31 asks for: some of its kernels are compiled at first use.
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04

RUN apt-get update && apt-get install -y --no-install-recommends build-essential python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* && python3 -m venv /opt/triptych
ENV PATH=/opt/triptych/bin:$PATH TRIPTYCH_CUDA=on
WORKDIR /src
COPY packages packages
# One command, so that pip takes the four packages from here and chooses one transformers for all: vLLM 0.31 asks for 5.17.
RUN pip install --no-cache-dir ./packages/parser ./packages/kernels ./packages/data './packages/trainer[vllm,fast,math,deepspeed]'
WORKDIR /data
CMD ["triptych", "--help"]
