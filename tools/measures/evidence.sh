#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# evidence.sh OUT: the pictures and figures of docs/MEASURES.md. Two subjects are composed, each is taught to the
# pocket model without and with prior preservation, the prompts are drawn, and every picture is measured. About
# 25 minutes on two cores. Needs build/likeness, build/measure_scores (ninja measure_scores) and what
# subjects.py needs; what is there already is not made again.
set -e
out=${1:?evidence.sh OUT}; here=$(cd "$(dirname "$0")" && pwd); root=$here/../..
likeness=${LIKENESS:-$root/build/likeness}; model=${MODEL:-$root/models/pocket}; python=${PYTHON:-python3}
[ -d "$out/cat" ] || "$python" "$here/subjects.py" "$out"
[ -d "$out/wizard" ] || cp -r "$root/examples/subject" "$out/wizard"

teach() { # subject animal
    common="--train_text_encoder --train_batch_size 4 --learning_rate 1.5e-4 --seed 0"
    [ -d "$out/$1-plain" ] || "$likeness" train -m "$model" --instance_data_dir "$out/$1" --instance_prompt "a photo of sks $2" \
        $common --max_train_steps 200 --output_dir "$out/$1-plain"
    [ -d "$out/$1-prior" ] || "$likeness" train -m "$model" --instance_data_dir "$out/$1" --instance_prompt "a photo of sks $2" \
        --with_prior_preservation --class_data_dir "$out/$1-class" --class_prompt "a photo of $2" --num_class_images 50 \
        $common --max_train_steps 300 --output_dir "$out/$1-prior"
}
draw() { # model folder animal
    [ -d "$out/$2" ] || "$likeness" generate -m "$1" -p "a sailboat at sea" -p "a child playing" -p "a photo of a cat" -p "a photo of a dog" \
        -p "a photo of sks $3" -p "a $3 running on the beach" -p "a photo of a $3 in the park" -p "a photo of $3" -s 42-44 -o "$out/$2/"
}
measure() { # subject animal
    echo "== $1"
    "$root/build/measure_scores" "$model" "$out/$1" "$out/$1-class" 2 "$out/$1-unseen"/* $3 "$out/other-$2s"/* "$out/$1-base"/* \
        "$out/$1-plain-drew"/* "$out/$1-prior-drew"/* > "$out/$1.scores"
    "$python" "$here/table.py" "$here/$1.eyes" < "$out/$1.scores"
}
for each in wizard:dog cat:cat; do
    subject=${each%:*} animal=${each#*:}
    teach $subject $animal
    draw "$model" $subject-base $animal
    draw "$out/$subject-plain" $subject-plain-drew $animal
    draw "$out/$subject-prior" $subject-prior-drew $animal
done
measure wizard dog "$(ls "$out/sister"/*)"
measure cat cat ""
