#!/usr/bin/env bash
# Follows the log of the first worker, which is the one that reports.
set -euo pipefail
source "$(dirname "$0")/common.sh"
parse_arguments 'log.sh NAME --zone=ZONE [--dry-run]' "$@"
on 0 "tail -n 50 -f $FOLDER/run.log"
