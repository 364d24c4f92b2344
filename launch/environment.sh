# Sourced by the other scripts: makes a virtual environment and installs the package in it.
#   install_environment FOLDER REQUIREMENT
# PYTHON chooses the interpreter (3.11 or newer; default: the first that fits).

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
    if command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "Python 3.11 or newer is needed; install it, or name it: PYTHON=/path/to/python3 bash $0" >&2
  return 2
}

install_environment() {
  local folder=$1 requirement=$2 python stamp
  python=$(find_python) || return 2
  stamp="$folder/.installed-$(echo "$requirement" | cksum | cut -d' ' -f1)"
  # Without pip it was left half made.
  if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1 && ! "$python" -m venv "$folder"; then
    echo "Could not make a virtual environment in $folder; on Debian: apt install python3-venv" >&2
    return 2
  fi
  # Installed once; again when what is installed has changed.
  if [ ! -f "$stamp" ] || [ setup.py -nt "$stamp" ]; then
    echo "Installing $requirement into $folder ..."
    # What is never imported need not be compiled: that would be a third of the time.
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
      --editable "$requirement" || return 2
    touch "$stamp"
  fi
}

# The extra that this machine's accelerator needs, "" without one. ACCELERATOR says it: cpu, cuda, tpu.
accelerator_extra() {
  case ${ACCELERATOR:-} in
    cpu) return ;;
    ?*) echo "$ACCELERATOR" && return ;;
  esac
  if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    echo cuda
  elif compgen -G '/dev/accel*' >/dev/null || [ -n "${TPU_NAME:-}" ]; then
    echo tpu
  fi
}
