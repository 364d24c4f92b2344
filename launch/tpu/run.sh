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
  # One archive, as an upload is complete or not there at all. What the disk has is newer. Unless
  # the bucket is surely empty, a restore that fails ends here: the copy shall not be overwritten.
  # (tar's status 1: a file has grown while it was read.)
  on 0 "cd $FOLDER || exit 1
if [ -f sync.pid ]; then kill \$(cat sync.pid) 2>/dev/null; fi
rm -rf restored outputs.*.tar
if [ ! -d outputs ]; then
  if found=\$(gcloud storage ls $BUCKET/outputs.tar 2>&1); then
    mkdir restored && gcloud storage cp $BUCKET/outputs.tar restored/ || exit 1
    tar -xf restored/outputs.tar -C restored && mv restored/outputs . || exit 1
  else
    case \$found in *'matched no objects'*) ;; *) echo \"\$found\" >&2; exit 1 ;; esac
  fi
fi
nohup sh -c 'while sleep 60; do
  tar -cf outputs.\$\$.tar outputs
  [ \$? -le 1 ] && gcloud storage cp outputs.\$\$.tar $BUCKET/outputs.tar
done' </dev/null >sync.log 2>&1 &
echo \$! >sync.pid"
fi
on all "cd $FOLDER || exit 1
nohup .venv/bin/dreamfusion generate$(printf ' %q' "${REST[@]}") --distributed=on </dev/null >run.log 2>&1 &"
