# What the curl scripts share. Sourced, never run: `. "$(dirname "$0")/lib.sh"`. Needs sh, curl, grep, sed, tr, seq.
#
#   ask ARGS...            runs curl with these arguments; keeps status, headers and body of the answer
#   expect_status N...     the status is one of these
#   expect_body TEXT       the body contains this text (white space does not count)
#   expect_header PATTERN  some header line matches this extended regular expression, whatever its case
#   expect_problem NAME    the body is a problem document of this type: see $url/problems/NAME
#
# The first expectation that is not met prints everything that came and ends the script with status 1.
#
# SPAWNLING_URL    where the gateway is; default http://127.0.0.1:5001, where `make run` serves
# SPAWNLING_TOKEN  sent as `Authorization: Bearer ...` when set; the default configuration asks for none

set -eu
url=${SPAWNLING_URL:-http://127.0.0.1:5001}
url=${url%/}
json='Content-Type: application/json'
answer=$(mktemp -d)
trap 'rm -rf "$answer"' EXIT

ask() {
    status=000
    : >"$answer/headers"
    : >"$answer/body"
    # --noproxy: the gateway is near, whatever http_proxy says. --max-time: no script hangs for ever.
    status=$(curl --silent --show-error --noproxy '*' --max-time "${max_time:-60}" \
        ${SPAWNLING_TOKEN:+--header "Authorization: Bearer $SPAWNLING_TOKEN"} \
        --dump-header "$answer/headers" --output "$answer/body" --write-out '%{http_code}' "$@") || curl_failed=$?
    if [ "${curl_failed:-0}" != 0 ] && [ -z "${may_fail:-}" ]; then
        complain "curl ended with status $curl_failed; is the gateway running at $url? Start it with: make run"
    fi
}

complain() {
    {
        printf '%s: %s\n' "$(basename "$0")" "$1"
        printf -- '--- what came back ---\n%s\n' "$status"
        cat "$answer/headers" "$answer/body"
        printf '\n'
    } >&2
    exit 1
}

expect_status() {
    for expected in "$@"; do
        [ "$status" != "$expected" ] || return 0
    done
    complain "expected status $(printf '%s' "$*" | sed 's/ / or /g'), got $status"
}

squeeze() { tr -d ' \t\r\n'; }

expect_body() {
    squeeze <"$answer/body" | grep -qF -- "$(printf '%s' "$1" | squeeze)" || complain "expected in the body: $1"
}

expect_header() {
    tr -d '\r' <"$answer/headers" | grep -qiE -- "$1" || complain "expected a header like: $1"
}

expect_problem() {
    expect_header '^content-type: *application/problem\+json'
    expect_body "/problems/$1\""
}
