# SPDX-License-Identifier: Apache-2.0
# fields.awk: what bench.sh's tables share: a field of a row, which is one line of JSON.
function field(name,   t) {
    if (!match($0, "\"" name "\": [^,}]*")) return ""
    t = substr($0, RSTART, RLENGTH)
    sub(/^[^:]*: /, "", t)
    gsub(/"/, "", t)
    return t
}
function met(yes) { return yes ? "met" : "MISSED" }
