#!/usr/bin/env bash
# The one way to test and deploy, on a laptop and in CI alike. Without arguments it tells how it is called.
set -euo pipefail
cd "$(dirname "$0")"
# As in the Makefile: the tests are compiled once.
unset PYTHONDONTWRITEBYTECODE

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
}

# What is wrong with the call comes last, where it is seen.
wrong() {
  usage
  echo "./build.sh: $*" >&2
  exit 2
}

command="${1:-}"
shift || true

# STAGE REGION PROFILE, or local where that may be; and FUNCTION, for deploy.
stage_of() {
  export FUNCTION=
  [[ $# -ge 1 ]] || wrong "$command: STAGE is missing"
  if [[ $1 == local ]]; then
    [[ $command != deploy ]] || wrong "deploy: STAGE can't be local, which int-test and acceptance-test make for themselves"
    [[ $# -eq 1 ]] || wrong "$command local takes nothing more; got ${*:2}"
    # LocalStack in a container runs no functions, so it is the one without.
    export STAGE=local STREAMKIT_LOCALSTACK=host
    return
  fi
  [[ $1 =~ ^[a-z][a-z0-9]{0,11}$ ]] || wrong "$command: STAGE is up to 12 small letters and digits, a letter first; got $1"
  [[ -f deploy/stages/$1.toml ]] || wrong "$command: there is no stage $1: write deploy/stages/$1.toml; there are $(stages)"
  [[ $# -ge 2 ]] || wrong "$command: REGION is missing"
  [[ $2 =~ ^[a-z]{2}(-[a-z]+)+-[0-9]$ ]] || wrong "$command: REGION is written as eu-west-1; got $2"
  [[ $# -ge 3 && -n $3 ]] || wrong "$command: PROFILE is missing"
  export STAGE=$1 REGION=$2 PROFILE=$3
  shift 3
  if [[ $command == deploy && $# -ge 1 ]]; then
    [[ $1 =~ ^[a-z][a-z0-9-]{0,19}$ ]] || wrong "deploy: FUNCTION is up to 20 small letters, digits and -, a letter first; got $1"
    FUNCTION=$1
    shift
  fi
  [[ $# -eq 0 ]] || wrong "$command: too many arguments: $*"
}

stages() {
  local files
  files="$(cd deploy/stages && echo *.toml)"
  files="${files//.toml /, }"
  echo "${files%.toml}"
}

case "$command" in
  check | test | package)
    [[ $# -eq 0 ]] || wrong "$command takes no arguments; got $*"
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
    [[ $# -ge 1 ]] || wrong "profile: NAME is missing"
    [[ $# -eq 1 ]] || wrong "profile: too many arguments: ${*:2}"
    [[ $1 =~ ^[a-z][a-z0-9-]*$ ]] || wrong "profile: NAME is small letters, digits and -, a letter first; got $1"
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
    [[ $# -ge 1 ]] || wrong "gate: ENVIRONMENT is missing"
    [[ $# -eq 1 ]] || wrong "gate: too many arguments: ${*:2}"
    [[ $1 =~ ^[A-Za-z0-9._-]+$ ]] || wrong "gate: ENVIRONMENT is letters, digits, '.', '_' and '-'; got $1"
    python3 deploy/gate.py "$1"
    ;;
  "")
    usage
    exit 2
    ;;
  *)
    wrong "there is no command $command"
    ;;
esac
