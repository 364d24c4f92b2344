#!/usr/bin/env bash
# Deletes a TPU and its disk; --queued also the place in the queue.
set -euo pipefail
source "$(dirname "$0")/common.sh"
parse_arguments 'delete.sh NAME --zone=ZONE [--queued] [--dry-run]' "$@"
if [ -n "$QUEUED" ]; then
  run gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet
else
  run gcloud compute tpus tpu-vm delete "$NAME" --zone="$ZONE" --quiet
fi
