#!/usr/bin/env bash
# Trains on a Slurm cluster: Ray's head node and the learner with its GPU on the first node, collectors on all nodes.
#   sbatch scripts/slurm.sh atari/apex runtime.collectors=120 --run-dir runs/apex
# Submitted again with the same run folder, it continues from the last checkpoint.
#SBATCH --job-name=rlsuite
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
set -euo pipefail

port=6379
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')

srun --nodes=1 --ntasks=1 -w "$head" \
    ray start --head --node-ip-address="$address" --port="$port" --num-cpus="$SLURM_CPUS_PER_TASK" --include-dashboard=false --block &
for _ in $(seq 60); do
    if srun --overlap --nodes=1 --ntasks=1 -w "$head" ray status --address="$address:$port" >/dev/null 2>&1; then break; fi
    sleep 2
done
if ((${#nodes[@]} > 1)); then
    rest=$(IFS=,; echo "${nodes[*]:1}")
    srun --nodes=$((${#nodes[@]} - 1)) --ntasks=$((${#nodes[@]} - 1)) -w "$rest" \
        ray start --address="$address:$port" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
fi

run=""
for ((i = 1; i <= $#; i++)); do
    if [[ "${!i}" == "--run-dir" ]]; then
        next=$((i + 1))
        run=${!next}
    fi
done
if [[ -n "$run" && -d "$run/checkpoints" ]]; then
    srun --overlap --nodes=1 --ntasks=1 -w "$head" rlsuite train --resume "$run" runtime.address="$address:$port"
else
    srun --overlap --nodes=1 --ntasks=1 -w "$head" rlsuite train "$@" runtime.address="$address:$port"
fi
