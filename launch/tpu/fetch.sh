#!/usr/bin/env bash
# Copies outputs/ of the first worker, which is the one that writes, into this folder.
set -euo pipefail
source "$(dirname "$0")/common.sh"
parse_arguments 'fetch.sh NAME --zone=ZONE [--dry-run]' "$@"
run gcloud compute tpus tpu-vm scp --recurse "$NAME:$FOLDER/outputs" . --zone="$ZONE" --worker=0
