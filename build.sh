#!/usr/bin/env bash
# The one way to test and deploy, on a laptop and in CI alike. Without arguments it tells how it is called.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
  cat >&2 <<'END'
usage:
  ./build.sh check                                    lint, types and templates
  ./build.sh test                                     unit tests; what they need of services is on this machine
  ./build.sh package                                  the functions' zips, into dist/
  ./build.sh int-test STAGE REGION PROFILE            handlers, invoked here, against the services of a stage
  ./build.sh deploy STAGE REGION PROFILE [FUNCTION]   the stream and the functions of a stage: deploy/stages/STAGE.toml;
                                                      or one of its functions alone, on a stage that is there
  ./build.sh acceptance-test STAGE REGION PROFILE     a deployed stage, from outside

  ./build.sh profile NAME                             for CI: a PROFILE whose credentials are those of AWS's variables
  ./build.sh gate ENVIRONMENT                         for CI: fails unless GitHub asks somebody before that one is deployed

  int-test and acceptance-test take `local` in place of STAGE REGION PROFILE: they make a stage on this machine for it.
  PACKAGES=folder ./build.sh deploy ...               the zips of an earlier build, as they are
END
  exit 2
}

command="${1:-}"
shift || true

# STAGE REGION PROFILE, or local where that may be; and FUNCTION, for deploy.
stage_of() {
  export FUNCTION=
  if [[ $# -eq 4 && $command == deploy && $4 =~ ^[a-z][a-z0-9-]{0,19}$ ]]; then
    FUNCTION=$4
    set -- "$1" "$2" "$3"
  fi
  if [[ $# -eq 1 && $1 == local && $command != deploy ]]; then
    # LocalStack in a container runs no functions, so it is the one without.
    export STAGE=local STREAMKIT_LOCALSTACK=host
  elif [[ $# -eq 3 && $1 != local && $1 =~ ^[a-z][a-z0-9]{0,11}$ && $2 =~ ^[a-z]{2}(-[a-z]+)+-[0-9]$ && -n $3 ]]; then
    export STAGE=$1 REGION=$2 PROFILE=$3
  else
    usage
  fi
}

case "$command" in
  check | test | package)
    [[ $# -eq 0 ]] || usage
    make "$command"
    ;;
  int-test)
    stage_of "$@"
    make setup
    [[ $STAGE != local ]] || .venv/bin/python localstack/setup_localstack.py
    .venv/bin/python -m pytest tests/integration
    ;;
  deploy)
    stage_of "$@"
    make setup
    .venv/bin/python -m deploy.stack "$STAGE" "$REGION" "$PROFILE" ${FUNCTION:+"$FUNCTION"}
    ;;
  acceptance-test)
    stage_of "$@"
    make setup
    [[ $STAGE != local ]] || .venv/bin/python localstack/setup_localstack.py
    .venv/bin/python -m pytest tests/acceptance
    ;;
  profile)
    [[ $# -eq 1 && $1 =~ ^[a-z][a-z0-9-]*$ ]] || usage
    config="${AWS_CONFIG_FILE:-$HOME/.aws/config}"
    if grep -qsxF "[profile $1]" "$config"; then
      echo "there is a profile $1 already: $config" >&2
      exit 1
    fi
    mkdir -p "$(dirname "$config")"
    # No credentials are written down.
    printf '[profile %s]\ncredential_process = python3 "%s/deploy/credentials.py"\n' "$1" "$PWD" >>"$config"
    ;;
  gate)
    [[ $# -eq 1 && $1 =~ ^[A-Za-z0-9._-]+$ ]] || usage
    python3 deploy/gate.py "$1"
    ;;
  *)
    usage
    ;;
esac
