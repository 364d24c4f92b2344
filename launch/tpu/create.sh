#!/usr/bin/env bash
# Creates a TPU: on demand, --spot (cheaper, may be taken back) or --queued (waits for a place).
set -euo pipefail
source "$(dirname "$0")/common.sh"
USAGE='create.sh NAME --zone=ZONE --type=TYPE [--version=IMAGE] [--spot] [--queued] [--dry-run]'
parse_arguments "$USAGE" "$@"
need_type "$USAGE"
VERSION=${VERSION:-$(runtime_of "$TYPE")}

if [ -n "$QUEUED" ]; then
  run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
    --accelerator-type="$TYPE" --runtime-version="$VERSION" ${SPOT:+--spot}
else
  run gcloud compute tpus tpu-vm create "$NAME" --zone="$ZONE" \
    --accelerator-type="$TYPE" --version="$VERSION" ${SPOT:+--spot}
fi
