# SPDX-License-Identifier: Apache-2.0
# train.awk: bench.sh's table of the training step: awk -f fields.awk -f train.awk ours-train peer-train.
function line(who) {
    printf "%-9s %-10s %-13s %-6s %8.2f %8.2f %8.2f %8.2f %9.0f", field("type"), field("optimizer"),
           field("checkpointing"), who, field("forward_s"), field("backward_s"), field("optimizer_s"),
           field("seconds"), field("peak_mb")
}
function kind() { return field("optimizer") == "lora" ? "lora " : "" }
BEGIN {
    times["float32 adamw"] = 2.0; times["bfloat16 adamw"] = 1.7; times["bfloat16 adamw8bit"] = 2.6
    most["float32 no"] = 9.1; most["bfloat16 no"] = 8.0; most["bfloat16 yes"] = 7.2; most["lora float32 no"] = 5.5 # GB, of 1000 of the column's MB
}
!/"row": "train"/ { next }
FILENAME ~ /ours-train$/ {
    if (!shown++) printf "\n%-9s %-10s %-13s %-6s %8s %8s %8s %8s %9s  %s\n", "training", "optimizer",
                         "checkpointing", "whose", "forward", "backward", "update", "step s", "peak MB", "bar"
    key = kind() field("type") " " field("checkpointing")
    ours[key] = field("seconds")
    mb[key] = field("peak_mb") + 0
    line("ours")
    if (key in most) printf "  %.1f GB: %s", most[key], met(mb[key] <= 1000 * most[key])
    wide = kind() "float32 " field("checkpointing")
    if (field("type") == "bfloat16" && wide in ours)
        printf ", no slower or larger than float32: %s", met(ours[key] <= ours[wide] + 0 && mb[key] <= mb[wide])
    print ""
    next
}
{
    key = kind() field("type") " " field("checkpointing")
    bar = field("type") " " field("optimizer")
    line("peer")
    if (key in ours) {
        printf "  ours is %.2f times as fast", field("seconds") / ours[key]
        if (bar in times && field("checkpointing") == "no")
            printf " (%.1f: %s)", times[bar], met(field("seconds") / ours[key] >= times[bar])
    }
    print ""
}
