# SPDX-License-Identifier: Apache-2.0
"""python table.py NAME.eyes < NAME.scores: the shares of each group of pictures beside what eyes say of them, how far
pictures of the subject that no model has seen are from the class's, and how well the orders agree.

Lines of NAME.eyes: "grade folder/prefix" (of a path's last two parts); the first line is the subject's photos, the
second the class, the third its unseen pictures. No package is needed."""
import statistics as st, sys

def read_eyes(path):
    lines = [l.split(None, 1) for l in open(path) if l.strip() and not l.startswith("#")]
    return [(float(g), p.strip()) for g, p in lines]

def group_of(path, eyes):
    name = "/".join(path.split("/")[-2:])
    fitting = [k for k, (_, p) in enumerate(eyes) if name.startswith(p)]
    return max(fitting, key=lambda k: len(eyes[k][1])) if fitting else None

def ranks(v):
    order = sorted(range(len(v)), key=v.__getitem__); out = [0.0] * len(v); i = 0
    while i < len(v):
        k = i
        while k < len(v) and v[order[k]] == v[order[i]]: k += 1
        for j in range(i, k): out[order[j]] = (i + k - 1) / 2
        i = k
    return out

def correlation(a, b):
    x, y = st.mean(a), st.mean(b)
    up = sum((p - x) * (q - y) for p, q in zip(a, b))
    return up / (sum((p - x) ** 2 for p in a) * sum((q - y) ** 2 for q in b)) ** .5

def figures(score, path, eyes):
    """Shares by group, and: separation of unseen pictures and of left-out photos from the class in its standard
    deviations, the gap between the least unseen and the most class picture in the same, the rank correlation with
    eyes over groups, and the root mean square difference from eyes over pictures."""
    groups = [[] for _ in eyes]; given, seen = [], []
    for s, p in zip(score, path):
        k = group_of(p, eyes)
        if k is not None: groups[k].append(s)
    own, of_class, unseen = groups[:3]; zero, whole, sd = st.mean(of_class), st.mean(own) - st.mean(of_class), st.stdev(of_class)
    shares = [[100 * (s - zero) / whole for s in g] for g in groups]
    off = [s - e for g, (e, _) in zip(shares, eyes) for s in g]
    full = [(st.mean(g), e) for g, (e, _) in zip(shares, eyes) if g]
    return shares, ((st.mean(unseen) - zero) / sd, whole / sd, (min(unseen) - max(of_class)) / sd,
                    correlation(ranks([a for a, _ in full]), ranks([b for _, b in full])), (sum(d * d for d in off) / len(off)) ** .5)

def main():
    eyes = read_eyes(sys.argv[1]); lines = [l.split(None, 1) for l in sys.stdin]
    shares, f = figures([float(s) for s, _ in lines], [p.strip() for _, p in lines], eyes)
    for g, (e, name) in zip(shares, eyes):
        if g: print("%-44s eyes %3.0f  share %6.1f  [%4.0f .. %4.0f]  n %d" % (name, e, st.mean(g), min(g), max(g), len(g)))
    print("unseen %.1f sd, photos left out %.1f sd, gap %.1f sd; rank correlation %.2f, off by %.1f" % f)

if __name__ == "__main__": main()
