# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/model/tokenizer/: small tokenizers with words added to them in each way that files
have it, and the ids that transformers' CLIPTokenizer (5.24) gives a list of texts with each.

    python tools/fixtures_tokenizer.py tests/fixtures/model/tokenizer
"""
import json
import os
import shutil
import sys

from transformers import AddedToken, CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
TEXTS = [
    "a photo of <sks-dog>", "a photo of a <sks-dog>, running", "<SKS-DOG>dog", "x<sks-dog>x",
    "<sks-dog><sks-dog>", "<sks-dog", "<sks-dog>_1 <sks-dog>_12", "a  <sks-dog>  b", "a Müller, müller MÜLLER",
    "mull mullet, mull", "un-mull mull_x mull9 mull", "left  strip", "strip\u3000\u3000 b", "cafe\u0301 café CAFÉ",
    "<|ENDOFTEXT|> <|endoftext|>b", "<|startoftext|>a <|STARTOFTEXT|>b", "Exact exact EXACT Exactly", "<two words>  <two  words>",
    "", "   ", "<sks-dog>",
]


def base():
    """256 signs, the same at the end of a word, a few merges, start and end: small enough for a fixture."""
    bytes_ = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    signs = [chr(b) for b in bytes_]
    signs += [chr(256 + i) for i in range(256 - len(signs))]
    merges = [("a", "n"), ("d", "o"), ("do", "g</w>"), ("o", "f</w>"), ("p", "h"), ("m", "u"), ("l", "l</w>"),
              ("mu", "ll</w>"), ("s", "k"), ("e", "x")]
    words = signs + [s + "</w>" for s in signs] + ["".join(m) for m in merges] + [START, END]
    return {w: i for i, w in enumerate(words)}, merges


def write(folder, name, value):
    with open(os.path.join(folder, name), "w") as f:
        json.dump(value, f, ensure_ascii=True, separators=(",", ":"), sort_keys=False)
        f.write("\n")


def fresh(out, name):
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


CONFIG = {"add_prefix_space": False, "bos_token": START, "do_lower_case": True, "eos_token": END, "errors": "replace",
          "model_max_length": 32, "pad_token": END, "tokenizer_class": "CLIPTokenizer", "unk_token": END}


def slow(out, name, **files):
    vocab, merges = base()
    folder = fresh(out, name)
    write(folder, "vocab.json", vocab)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    write(folder, "tokenizer_config.json", dict(CONFIG, **files.pop("config", {})))
    for key, value in files.items():
        write(folder, key + ".json", value)
    return folder


def token(content, **flags):
    flags = dict(dict(lstrip=False, normalized=True, rstrip=False, single_word=False, special=False), **flags)
    return dict(content=content, **flags)


def main(out):
    n = len(base()[0])
    special = token(START, special=True), token(END, special=True)
    more = [token("<sks-dog>"), token("<sks-dog>_1"), token("Müller"), token("mull", single_word=True),
            token("strip", lstrip=True, rstrip=True), token("Exact", normalized=False), token("<Two Words>"),
            token("CAFÉ", rstrip=True), token("left", normalized=False, rstrip=True)]
    plain = ["<sks-dog>", "<sks-dog>_1", "Müller"]
    folders = [
        # textual inversion saved by transformers before 4.34, then by those before 5
        slow(out, "encoder", added_tokens={w: n + i for i, w in enumerate(plain)},
             special_tokens_map={"bos_token": special[0], "eos_token": special[1], "pad_token": END, "unk_token": END}),
        slow(out, "decoder", config={"added_tokens_decoder": {
            str(n - 2): special[0], str(n - 1): special[1], **{str(n + i): t for i, t in enumerate(more)}}},
             added_tokens={"not read": n}),
        slow(out, "listed", config={"additional_special_tokens": ["<sks-dog>", "Exact"]},
             special_tokens_map={"bos_token": START, "eos_token": END, "pad_token": "!", "unk_token": END}),
    ]
    fast = CLIPTokenizer.from_pretrained(folders[0])
    fast.add_tokens([AddedToken("mull", single_word=True), "<two words>"])
    folder = fresh(out, "fast")
    fast.save_pretrained(folder)
    if os.path.exists(os.path.join(folder, "tokenizer.json")):
        with open(os.path.join(folder, "tokenizer.json")) as f:
            saved = json.load(f)
        write(folder, "tokenizer.json", saved)
    folders.append(folder)
    rows = {}
    for folder in folders:
        t = CLIPTokenizer.from_pretrained(folder)
        rows[os.path.basename(folder)] = [
            {"text": s, "ids": t(s, padding="max_length", max_length=32, truncation=True).input_ids} for s in TEXTS]
    write(out, "ids.json", rows)


if __name__ == "__main__":
    main(sys.argv[1])
