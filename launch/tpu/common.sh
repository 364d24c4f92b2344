# Sourced by the other scripts: reads their arguments, and runs or only prints commands.
#   parse_arguments USAGE "$@"   sets NAME and the options below
#   run COMMAND ...              runs it; with --dry-run prints it, ready to be pasted
#   on WORKERS SCRIPT            runs a shell script on workers: all, or a number

FOLDER=dreamfusion_jax # on the workers, in the home folder

parse_arguments() {
  local usage=$1
  shift
  NAME='' ZONE='' TYPE='' VERSION='' BUCKET='' FROM='' SPOT='' QUEUED='' DRY_RUN='' REST=()
  while [ $# -gt 0 ]; do
    case $1 in
      --zone=*) ZONE=${1#*=} ;;
      --type=*) TYPE=${1#*=} ;;
      --version=*) VERSION=${1#*=} ;;
      --bucket=*) BUCKET=${1#*=} ;;
      --from=*) FROM=${1#*=} ;;
      --spot) SPOT=1 ;;
      --queued) QUEUED=1 ;;
      --dry-run) DRY_RUN=1 ;;
      --help | -h)
        printf 'usage: %s\n' "$usage"
        sed -n '2,/^[^#]/s/^# \?//p' "$0"
        exit 0
        ;;
      --)
        shift
        REST=("$@")
        break
        ;;
      -*) fail "$usage" "unknown option $1" ;;
      *)
        [ -z "$NAME" ] || fail "$usage" "unexpected argument $1"
        NAME=$1
        ;;
    esac
    shift
  done
  [ -n "$NAME" ] || fail "$usage" "the name of the TPU is missing"
  [ -n "$ZONE" ] || fail "$usage" "--zone is missing"
  [ -z "$BUCKET" ] || check_bucket "$usage" --bucket "$BUCKET"
}

# An address becomes a part of scripts that the workers run.
check_bucket() {
  case ${3#gs://} in *[!A-Za-z0-9._/-]*) fail "$1" "$2 holds other characters than letters, digits and . _ / -" ;; esac
  case $3 in gs://?*) ;; *) fail "$1" "$2 must start with gs://" ;; esac
}

fail() {
  printf '%s\nusage: %s\n' "$2" "$1" >&2
  exit 2
}

need_type() { [ -n "$TYPE" ] || fail "$1" "--type is missing, for example v4-8"; }

# The image of the runtime that a type of TPU starts with.
runtime_of() {
  case $1 in
    v5litepod-* | v5e-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

run() {
  if [ -n "$DRY_RUN" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on() {
  run gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker="$1" --command="$2"
}
