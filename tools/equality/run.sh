#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD: what `make equality` does: every comparison of this folder on the pocket model, one after the other, and
# at the end a table of them (as docs/EQUALITY.md has it). PARTS chooses (all). REFS (/tmp/likeness-references) keeps
# what diffusers makes, which takes most of the time once; OURS (/tmp/likeness-pictures) what BUILD/likeness makes.
# PYTHON must have torch, diffusers, transformers, peft, scipy, torchsde, gguf, numpy and Pillow. Exit status 1 where
# any part is not within its bound.
set -u
build=$1
refs=${REFS:-/tmp/likeness-references}
ours=${OURS:-/tmp/likeness-pictures}
export PYTHON=${PYTHON:-python3}
tools=$(dirname "$0")
parts=${PARTS:-$(cd "$tools" && ls ./*.sh | sed 's|^\./||; s|\.sh$||; /^run$/d' | LC_ALL=C sort | tr '\n' ' ')lora}
mkdir -p "$refs" "$ours"

# The model that mix.sh lets take turns with the pocket model.
tuned() {
    [ -f "$refs/tuned/model_index.json" ] ||
        "$build/likeness" train -m "$tools/../../models/pocket" --instance_data_dir "$tools/../../examples/subject" \
            --instance_prompt "a photo of sks dog" --max_train_steps 40 --learning_rate 1e-4 --seed 7 \
            --output_dir "$refs/tuned" >/dev/null
}

part() { # NAME
    case $1 in
    lora) "$PYTHON" "$tools/lora.py" "$build/likeness" "$ours/lora" ;;
    pictures) "$tools/pictures.sh" "$build" "$refs/pictures" "$ours/pictures" ;;
    mix) tuned && PROMPTS=2 "$tools/mix.sh" "$build" "$refs/tuned" "$refs/mix" "$ours/mix" ;;
    *) "$tools/$1.sh" "$build" "$refs" "$ours" ;;
    esac
}

# A row of the table for each of a part's comparisons of pictures, else the last line that it printed.
rows() { # NAME GOOD
    local rows
    rows=$(sed -nE "s/^([0-9]+) pictures: worst ([0-9]+) grey levels, [0-9]+ over the limit of ([0-9]+); PSNR median \
([^ ]+) dB, least ([^ ]+) dB.*/| $1 (limit \3) | \1 pictures: worst \2, \4 dB in the median, \5 least | $2 |/p" "$ours/$1.log")
    echo "${rows:-"| $1 | $(tail -n 1 "$ours/$1.log") | $2 |"}" | sed 's/ (limit 1)//; s/(limit 255)/(not diffusers'"'"': what it costs)/'
}

status=0
table="| comparison | result | within its bound |"$'\n'"|---|---|---|"
for name in $parts; do
    echo "== $name"
    start=$SECONDS
    part "$name" >"$ours/$name.log" 2>"$ours/$name.err" && good=yes || { good=NO; status=1; tail -n 5 "$ours/$name.err"; }
    cat "$ours/$name.log"
    echo "   ($((SECONDS - start)) s)"
    table+=$'\n'$(rows "$name" $good)
done
printf '\n%s\n' "$table"
exit $status
