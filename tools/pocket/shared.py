# SPDX-License-Identifier: Apache-2.0
"""What the processes share: the pictures made so far, their captions as tokens, and their latents, in anonymous shared
memory, made before the processes fork.
"""
import json
import mmap
import os
import pickle
import time

import numpy as np

import concepts as K

HERE = os.path.dirname(os.path.abspath(__file__))
START = time.time()


def log(*a):
    print("%6.1f" % (time.time() - START), *a, flush=True)


class Words:
    """Captions to tokens: every caption word is one token of the CLIP-format vocabulary."""

    def __init__(self):
        self.v = json.load(open(HERE + "/tok/vocab.json", encoding="utf8"))
        self.bos, self.eos = self.v["<|startoftext|>"], self.v["<|endoftext|>"]
        self.sks = self.v["sks</w>"]
        used = {self.v[w + "</w>"] for w in K.vocabulary()} | {self.sks, self.bos, self.eos}
        self.free = np.array([i for i in self.v.values() if i not in used], np.int16)  # tokens that no caption holds

    def ids(self, text, rng=None):
        """Given rng, 3 % of the captions get a word that they do not know, and which so comes to change nothing."""
        t = [self.v[w + "</w>"] for w in text.split()]
        if rng is not None and len(t) > 2 and rng.random() < .03:
            for _ in range(1 + (rng.random() < .3)):
                t.insert(int(rng.integers(1, len(t))), int(self.free[rng.integers(len(self.free))]))
        t = [self.bos] + t[:30] + [self.eos]
        return np.array(t + [self.eos] * (32 - len(t)), np.int16)


def zeros(dtype, *shape):
    """Shared between the processes, and not reserved (0x4000, MAP_NORESERVE): memory grows only as it is used."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | 0x4000)
    return np.frombuffer(memory, dtype).reshape(shape)


class Pool:
    def __init__(self, cap, makers):
        self.cap, self.makers = cap - cap % makers, makers
        self.pics = zeros(np.uint8, self.cap, 128, 128, 3)
        self.ids = zeros(np.int16, self.cap, 3, 32)  # three captions; the first number -1: none, for the autoencoder
        self.z = zeros(np.float16, self.cap, 4, 16, 16)
        self.made = zeros(np.int64, makers)  # slot s belongs to maker s % makers
        self.encoded = zeros(np.int64, 1)

    def count(self):
        return int(self.made.min()) * self.makers


def maker(pool, rank, seed, vae_only):
    """One picture-making process. Of the first vae_only pictures 12 % are without captions."""
    import compose
    os.nice(10)
    m = compose.Maker(pickle.load(open(HERE + "/pack/sprites.pkl", "rb")), seed * 1000 + rank)
    words = Words()
    for k in range(pool.cap // pool.makers):
        s = k * pool.makers + rank
        pool.pics[s], caps = m.one(.12 if k * pool.makers < vae_only else 0.0)
        if caps is None:
            pool.ids[s, 0, 0] = -1
        else:
            assert not any("sks" in c for c in caps)
            if len(caps) > 3:
                caps[int(m.rng.integers(3))] = caps[3]
            for j in range(3):
                pool.ids[s, j] = words.ids(caps[j], m.rng)
        pool.made[rank] = k + 1
