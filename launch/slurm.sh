#!/usr/bin/env bash
# Several GPU nodes under Slurm:
#   sbatch --nodes=2 launch/slurm.sh "a peacock" --config=paper --config.prior=/models/IF-I-XL-v1.0 --config.train.views=16
# One task a GPU; JAX finds the others from Slurm's variables. Slurm sends SIGTERM two minutes
# before the end, at which the run saves and exits: submit the same again to go on. A job that
# is preempted is queued again by itself.
#SBATCH --job-name=dreamfusion
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
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
srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-8}" .venv/bin/dreamfusion generate "$@"
