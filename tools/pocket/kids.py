# SPDX-License-Identifier: Apache-2.0
"""Playing children: an emoji head on a small body drawn here, in several poses. Everything is in units of the
figure's height.
"""
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

N = 304  # canvas; the figure is about .86 of it high; shrunk by two at the end
U = N * 0.86
SHIRTS = [
    (235, 70, 60),
    (250, 150, 40),
    (255, 205, 60),
    (80, 180, 90),
    (60, 150, 235),
    (150, 100, 220),
    (240, 110, 170),
    (245, 245, 245),
    (40, 175, 185),
]
PANTS = [(60, 85, 150), (90, 70, 60), (70, 75, 85), (45, 120, 170), (150, 80, 60), (110, 60, 140), (200, 60, 70)]
SHOES = [(235, 60, 60), (50, 60, 80), (250, 250, 250), (60, 140, 230), (255, 190, 40)]

# hands and feet: (left hand, right hand, left foot, right foot), lean in degrees, where the toy is, verbs
POSES = {
    "cheer": (((-0.30, 0.27), (0.30, 0.27), (-0.10, 0.97), (0.10, 0.97)), 0, None, ["playing", "playing", "jumping"]),
    "wave": (((-0.22, 0.72), (0.31, 0.25), (-0.09, 0.97), (0.10, 0.97)), 0, "ground", ["playing"]),
    "run": (((-0.26, 0.50), (0.27, 0.66), (-0.30, 0.90), (0.20, 0.93)), -5, None, ["running", "playing", "running"]),
    "kick": (((-0.28, 0.52), (0.27, 0.48), (-0.08, 0.97), (0.30, 0.84)), 5, "foot", ["playing", "playing with"]),
    "throw": (((0.14, 0.16), (0.36, 0.22), (-0.13, 0.96), (0.12, 0.97)), 2, "hand", ["playing", "playing with"]),
    "hold": (((-0.10, 0.66), (0.14, 0.66), (-0.09, 0.97), (0.09, 0.97)), 0, "belly", ["playing", "playing with"]),
    "kite": (((-0.22, 0.70), (0.34, 0.32), (-0.12, 0.96), (0.12, 0.97)), 3, "sky", ["playing", "playing with"]),
    "sit": (
        ((-0.24, 0.74), (0.26, 0.72), (-0.25, 0.96), (0.27, 0.96)),
        0,
        "side",
        ["playing", "playing with", "sitting"],
    ),
}


class Pen:
    def __init__(self, soft):
        self.im = Image.new("RGBA", (N, N), (0, 0, 0, 0))
        self.soft = soft

    def part(self, col, draw):
        """Draw one part's mask and lay it over the figure, lit from the upper left."""
        m = Image.new("L", (N, N), 0)
        draw(ImageDraw.Draw(m))
        bb = m.getbbox()
        if bb is None:
            return
        bb = (max(bb[0] - 8, 0), max(bb[1] - 8, 0), min(bb[2] + 8, N), min(bb[3] + 8, N))
        m = m.crop(bb)
        c = np.broadcast_to(np.array(col, np.float32), (m.height, m.width, 3))
        if self.soft:
            b = m.filter(ImageFilter.GaussianBlur(7))
            l = np.asarray(ImageChops.offset(b, -5, -5), np.float32) - np.asarray(
                ImageChops.offset(b, 5, 5), np.float32
            )
            c = c * (1 - l[..., None] / 255 * 0.38) + np.clip(-l, 0, 255)[..., None] * 0.10
        self.im.paste(Image.fromarray(np.clip(c, 0, 255).astype(np.uint8)), bb[:2], m)

    def limb(self, col, pts, w):
        def d(q):
            P = [xy(p) for p in pts]
            r = w * U / 2
            q.line(P, fill=255, width=int(2 * r))
            for x, y in P:
                q.ellipse((x - r, y - r, x + r, y + r), fill=255)

        self.part(col, d)

    def blob(self, col, p, rx, ry):
        x, y = xy(p)
        self.part(col, lambda q: q.ellipse((x - rx * U, y - ry * U, x + rx * U, y + ry * U), fill=255))


def xy(p):
    return N / 2 + p[0] * U, N * 0.13 + p[1] * U


def skin(head):
    a = np.asarray(head).astype(np.float32)
    h, w = a.shape[:2]
    q = a[int(h * 0.62) : int(h * 0.76), int(w * 0.28) : int(w * 0.38)].reshape(-1, 4)
    return tuple(np.median(q[:, :3], 0))


def figure(head, rng, pose, girl, soft):
    """RGBA picture of a child, and where its toy goes (x, y in picture fractions)."""
    (lh, rh, lf, rf), lean, toy, verbs = POSES[pose]
    pick = lambda v: tuple(np.clip(np.array(v[rng.integers(len(v))], float) + rng.normal(0, 10, 3), 0, 255))
    j = lambda p, s=0.018: (p[0] + rng.normal(0, s), p[1] + rng.normal(0, s))
    sk, shirt, pants, shoe = skin(head), pick(SHIRTS), pick(PANTS), pick(SHOES)
    dress = girl and rng.random() < 0.45
    lh, rh, lf, rf = j(lh), j(rh), (j(lf)[0], lf[1]), (j(rf)[0], rf[1])
    p = Pen(soft)
    sit = pose == "sit"
    ls, rs = (-0.115, 0.475), (0.115, 0.475)
    hip = 0.72 if not sit else 0.80

    def leg(x, f):
        knee = (
            (x + f[0]) / 2 + (0.05 if f[0] > x + 0.1 else -0.02 if f[0] < x - 0.1 else 0),
            (hip + f[1]) / 2 - (0.02 if sit else 0),
        )
        if pose == "run" and f[0] < -0.15:
            knee = (-0.10, 0.88)
        p.limb(sk, [(x, hip), knee, (f[0], f[1] - 0.03)], 0.085)
        if not dress:
            p.limb(pants, [(x, hip - 0.02), ((x * 0.3 + knee[0] * 0.7), hip * 0.3 + knee[1] * 0.7)], 0.115)
        p.blob(shoe, (f[0] + (0.02 if f[0] > 0 else -0.02), f[1] - 0.025), 0.075, 0.045)

    def arm(s, h):
        out = 1 if s[0] > 0 else -1
        el = ((s[0] + h[0]) / 2 + 0.03 * out, (s[1] + h[1]) / 2 + 0.02)
        p.limb(sk, [s, el, h], 0.068)
        p.limb(shirt, [s, (s[0] * 0.45 + el[0] * 0.55, s[1] * 0.45 + el[1] * 0.55)], 0.092)
        p.blob(sk, h, 0.046, 0.046)

    front = pose in ("hold",)
    if not front:
        arm(ls, lh)
        arm(rs, rh)
    leg(-0.07, lf)
    leg(0.07, rf)
    if dress:
        p.part(
            shirt,
            lambda q: q.polygon(
                [xy(v) for v in ((-0.10, 0.44), (0.10, 0.44), (0.20, hip + 0.09), (-0.20, hip + 0.09))], fill=255
            ),
        )
    else:
        x0, y0 = xy((-0.145, 0.42))
        x1, y1 = xy((0.145, hip + 0.015))
        p.part(shirt, lambda q: q.rounded_rectangle((x0, y0, x1, y1), U * 0.07, fill=255))
        if rng.random() < 0.3:  # stripes
            c = pick(SHIRTS)
            for k in range(2):
                s0, s1 = xy((-0.143, 0.54 + 0.08 * k))
                e0, e1 = xy((0.143, 0.575 + 0.08 * k))
                p.part(c, lambda q: q.rectangle((s0, s1, e0, e1), fill=255))
    if front:
        arm(ls, lh)
        arm(rs, rh)
    k = 0.50 * U / head.height
    hd = head.resize((int(head.width * k), int(head.height * k)), Image.LANCZOS).rotate(
        rng.uniform(-7, 7), Image.BICUBIC, expand=True
    )
    x, y = xy((rng.normal(0, 0.008), 0.235))
    p.im.alpha_composite(hd, (max(int(x - hd.width / 2), 0), max(int(y - hd.height / 2), 0)))
    im = p.im.rotate(lean + rng.uniform(-3, 3), Image.BICUBIC).resize((N // 2, N // 2), Image.LANCZOS)
    at = {
        "foot": (rf[0] + 0.12, 0.93, "foot"),
        "hand": ((lh[0] + rh[0]) / 2, min(lh[1], rh[1]) - 0.09, "hand"),
        "ground": (0.36, 0.93, "ground"),
        "belly": (0.02, 0.66, "belly"),
        "sky": (rh[0] + 0.04, rh[1], "sky"),
        "side": (0.40, 0.92, "side"),
    }.get(toy)
    if at:
        at = ((N / 2 + at[0] * U) / N, (N * 0.13 + at[1] * U) / N, at[2], (rh[0], rh[1]))
    return im, at, verbs
