#!/bin/sh
# The same command on every machine of a Slurm job. From the project's folder, which all machines see:
#   sbatch --nodes=2 cluster/slurm.sh train configs/mushrooms9.yaml [KEY=VALUE ...]
#   sbatch --nodes=2 cluster/slurm.sh train --resume runs/...
# WORKERS=8 sets the workers of each machine; without it, one for each GPU that Slurm has given, or one.
#SBATCH --job-name=mslab
#SBATCH --ntasks-per-node=1
#SBATCH --output=mslab-%j.log
set -eu

MASTER=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):$((20000 + SLURM_JOB_ID % 20000))
WORKERS=$((SLURM_JOB_NUM_NODES * ${WORKERS:-${SLURM_GPUS_ON_NODE:-1}}))
export MASTER WORKERS
./run.sh --version >&2 # installs on this machine, if that is still to do, before all of them look for it
# one launcher a machine, which starts that machine's workers; the first failure ends the job
exec srun --ntasks-per-node=1 --kill-on-bad-exit=1 sh -c \
    'exec ./run.sh "$@" --workers "$WORKERS" --nodes "$SLURM_JOB_NUM_NODES" --node-rank "$SLURM_NODEID" --master "$MASTER"' \
    mslab "$@"
