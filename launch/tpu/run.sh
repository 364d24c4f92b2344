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
  on 0 "cd $FOLDER && mkdir -p outputs && (gcloud storage rsync -r $BUCKET outputs || true)
nohup sh -c 'while sleep 60; do gcloud storage rsync -r outputs $BUCKET; done' </dev/null >sync.log 2>&1 &"
fi
on all "cd $FOLDER && nohup .venv/bin/dreamfusion generate$(printf ' %q' "${REST[@]}") --distributed=on </dev/null >run.log 2>&1 &"
