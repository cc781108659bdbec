# SPDX-License-Identifier: Apache-2.0
# generate.awk: bench.sh's table of the networks: awk -v native=yes|no -f fields.awk -f generate.awk ours peer openvino.
# native: the processor has AVX512-BF16. A peer's guided step is its UNet's evaluation. The peer has two rows where both of its layouts were run: the faster counts.
!/"row":/ { next }
{ key = field("row") " " field("type"); types[field("type")] = 1 }
FILENAME ~ /ours$/ { order[++n] = key; ours[key] = field("seconds"); ours_mb[key] = field("peak_mb"); next }
FILENAME ~ /openvino$/ { vino[key] = field("seconds") + 0; next }
!(key in peer) || field("seconds") + 0 < peer[key] {
    peer[key] = field("seconds") + 0; peer_mb[key] = field("peak_mb") + 0; layout[key] = field("layout")
}

function add(text) { note = note (note == "" ? "" : ", ") text }

END {
    bar["guided float32"] = 2.1; bar["guided bfloat16"] = 1.85; bar["vae float32"] = 3.4
    vino_bar["guided bfloat16"] = 1.35
    for (type in types) {
        if (!(("unet " type) in peer)) continue
        peer["guided " type] = peer["unet " type]; peer_mb["guided " type] = peer_mb["unet " type]
        layout["guided " type] = layout["unet " type]
    }
    for (type in types) if (("unet " type) in vino) vino["guided " type] = vino["unet " type]
    own_bar["vae bfloat16"] = 1.35
    printf "%-14s %9s %9s %7s %11s %7s %9s %9s  %s\n", "row", "ours s", "peer s", "ratio", "OpenVINO s", "ratio",
           "ours MB", "peer MB", "bar"
    for (i = 1; i <= n; i++) {
        key = order[i]; split(key, part, " "); note = ""
        own = ours[part[1] " float32"] / ours[key]
        emulated = part[2] == "bfloat16" && native == "no"
        if (emulated) add(sprintf("0.9 of our float32: %s (no AVX512-BF16%s)", met(own >= 0.9), key in peer ? "; peer emulates" : ""))
        else if (key in peer) {
            want = key in bar ? bar[key] : 1
            add(sprintf("%.2f times: %s", want, met(peer[key] / ours[key] >= want)))
            add(sprintf("memory: %s (%s)", met(ours_mb[key] + 0 <= peer_mb[key] + 0), layout[key]))
        }
        if (!emulated && key in vino && key in vino_bar)
            add(sprintf("%.2f of OpenVINO: %s", vino_bar[key], met(vino[key] / ours[key] >= vino_bar[key])))
        if (!emulated && key in own_bar)
            add(sprintf("%.2f of our float32: %s (%.2f)", own_bar[key], met(own >= own_bar[key]), own))
        printf "%-14s %9.3f %9s %7s %11s %7s %9.0f %9s  %s\n", key, ours[key],
               key in peer ? sprintf("%.3f", peer[key]) : "-",
               key in peer ? sprintf("%.2f", peer[key] / ours[key]) : "-",
               key in vino ? sprintf("%.3f", vino[key]) : "-",
               key in vino ? sprintf("%.2f", vino[key] / ours[key]) : "-",
               ours_mb[key], key in peer ? sprintf("%.0f", peer_mb[key]) : "-", note
    }
}
