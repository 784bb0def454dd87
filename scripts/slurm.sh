#!/usr/bin/env bash
# Trains on a Slurm cluster: Ray's head node and the learner with its GPU on the first node, collectors on all nodes.
#   sbatch scripts/slurm.sh atari/apex runtime.collectors=120 --run-dir runs/apex
# Submitted again with the same run folder, it continues from the last checkpoint, with the settings given then. Two minutes before
# its time is up, or after `scancel --batch --signal=TERM JOB`, it writes a checkpoint and ends.
#SBATCH --job-name=rlsuite
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

port=${RLSUITE_RAY_PORT:-6379}
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')

# Only this job may join its Ray, whatever token lies in ~/.ray. srun passes the environment on.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

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
arguments=("$@")
settings=()
for i in "${!arguments[@]}"; do
    case ${arguments[i]} in
        --run-dir=*) run=${arguments[i]#--run-dir=} ;;
        --run-dir) run=${arguments[i + 1]-} ;;
        -*) ;;
        *=*) settings+=("${arguments[i]}") ;;
    esac
done
if [[ -n "$run" && -d "$run/checkpoints" ]]; then
    arguments=(--resume "$run" "${settings[@]}")
fi
srun --overlap --nodes=1 --ntasks=1 -w "$head" rlsuite train "${arguments[@]}" runtime.address="$address:$port" &
driver=$!
# The signal goes to the driver alone: its workers must live until the checkpoint is written.
trap 'kill -TERM "$driver" 2>/dev/null || true' TERM INT
code=0
wait "$driver" || code=$?
while kill -0 "$driver" 2>/dev/null; do
    code=0
    wait "$driver" || code=$?
done
exit "$code"
