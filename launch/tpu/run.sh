#!/usr/bin/env bash
# Starts `dreamfusion generate` on all workers; what stands after -- are its arguments.
# It goes on when the connection ends: log.sh follows it. With --bucket the first worker copies
# outputs/ there every minute, from where resume.sh takes them.
set -euo pipefail
source "$(dirname "$0")/common.sh"
USAGE='run.sh NAME --zone=ZONE [--bucket=gs://BUCKET/FOLDER] [--dry-run] -- PROMPT [ARGUMENTS]'
parse_arguments "$USAGE" "$@"
[ ${#REST[@]} -gt 0 ] || fail "$USAGE" "the prompt is missing after --"

if [ -n "$BUCKET" ]; then
  # One archive, as an upload is complete or not there at all.
  on 0 "cd $FOLDER || exit 1
if gcloud storage ls $BUCKET/outputs.tar; then
  gcloud storage cp $BUCKET/outputs.tar . && tar -xf outputs.tar || exit 1
fi
nohup sh -c 'while sleep 60; do tar -cf outputs.tar outputs; gcloud storage cp outputs.tar $BUCKET/outputs.tar; done' </dev/null >sync.log 2>&1 &"
fi
on all "cd $FOLDER || exit 1
nohup .venv/bin/dreamfusion generate$(printf ' %q' "${REST[@]}") --distributed=on </dev/null >run.log 2>&1 &"
