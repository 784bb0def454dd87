# rlsuite as an image, for a CPU or for NVIDIA GPUs: the commands are those of the README.
#
#   docker build -t rlsuite .
#   docker build -t rlsuite:cuda --build-arg TORCH=https://download.pytorch.org/whl/cu128 .
#
#   docker run --rm -v "$PWD/runs:/home/player/runs" rlsuite train atari/pong
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/runs:/home/player/runs" rlsuite:cuda train atari/apex
#   docker run --rm -v "$PWD/videos:/home/player/videos" rlsuite evaluate pretrained:pong --episodes 10 --video videos
#
# Ray and the inference server share memory, which a container has 64 MB of unless --shm-size says more.
FROM python:3.11-slim-bookworm

# Where torch comes from: its versions there end in +cpu or +cu128, and so count as newer than those of PyPI. The driver for a GPU
# is the machine's.
ARG TORCH=https://download.pytorch.org/whl/cpu

WORKDIR /src
COPY . .
RUN pip install --no-cache-dir --extra-index-url="$TORCH" "/src[export,hub,sweep,vision]" && useradd --create-home --uid 1000 player \
    && mkdir -p /home/player/runs /home/player/videos && chown -R player /home/player

# Not root: what a run executes can change its own folders only. Mounted folders must belong to user 1000, or use --user.
USER 1000
WORKDIR /home/player
ENTRYPOINT ["rlsuite"]
CMD ["--help"]
