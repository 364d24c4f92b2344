#!/usr/bin/env bash
# Installs the [test] extra and runs the suite: bash launch/test.sh [--fast | pytest arguments]
# --fast leaves out the tests marked slow. WORKERS is the number of processes (default: 2),
# EXTRAS what is installed (default: test; test,tpu also compiles for TPUs, 0.7 GB more).
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh

install_environment .venv ".[${EXTRAS:-test}]"
if [ "${1:-}" = --fast ]; then
  shift
  set -- -m "not slow" "$@"
fi
exec .venv/bin/python -m pytest -n "${WORKERS:-2}" --dist=worksteal "$@"
