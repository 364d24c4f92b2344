#!/usr/bin/env bash
# Several GPU nodes under Slurm:
#   sbatch --nodes=2 launch/slurm.sh "a peacock" --config=paper --config.prior.name=/models/IF-I-XL-v1.0 --config.train.batch_size=16
# One stage a node, which has all GPUs of it: a node reads the prior once. JAX finds the others from
# Slurm's variables. Nodes of another kind: --gpus-per-node=4 --cpus-per-stage=32. (A stage a GPU works
# too, --ntasks-per-node=8 --cpus-per-stage=8, but then the node reads the prior eight times.)
# Slurm sends SIGTERM two minutes before the end, at which the run saves and exits: submit the same
# again to go on. A job that is preempted is queued again by itself.
# With IMAGE=dreamfusion.sif it runs in a container, which is made where Docker and Apptainer are:
#   docker build -f launch/Dockerfile --build-arg EXTRA=cuda -t dreamfusion .
#   apptainer build dreamfusion.sif docker-daemon:dreamfusion:latest
#SBATCH --job-name=dreamfusion
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-stage=64
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

if [ $# -eq 0 ]; then
  echo 'usage: sbatch --nodes=N launch/slurm.sh "a teddy bear" [more arguments of `dreamfusion generate`]' >&2
  exit 2
fi
cd "${SLURM_SUBMIT_DIR:-.}"
program=(.venv/bin/dreamfusion)
if [ -n "${IMAGE:-}" ]; then
  program=(apptainer run --nv "$IMAGE")
fi
srun --kill-on-bad-exit=1 --cpus-per-stage="${SLURM_CPUS_PER_TASK:-64}" "${program[@]}" generate "$@"
