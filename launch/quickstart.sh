#!/usr/bin/env bash
# Prompt to 3D object on this machine: bash launch/quickstart.sh "a teddy bear" [--seed=1 ...]
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

if [ $# -eq 0 ]; then
  echo 'usage: bash launch/quickstart.sh "a teddy bear" [more arguments of `dreamfusion generate`]' >&2
  exit 2
fi
extra=$(accelerator_extra)
if [ -n "$extra" ]; then
  echo "An accelerator was found: the extra [$extra] is installed (ACCELERATOR=cpu leaves it out)."
fi
install_environment .venv ".${extra:+[$extra]}"
exec .venv/bin/dreamfusion generate "$@"
