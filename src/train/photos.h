/* SPDX-License-Identifier: Apache-2.0
 *
 * photos: a folder of training pictures, and the pixels that a crop of one of them gives:
 * train_dreambooth.py's DreamBoothDataset (EXIF orientation, RGB, shorter side resized to the
 * resolution with Pillow's bilinear, crop, to -1..1). */
#ifndef LIKENESS_TRAIN_PHOTOS_H
#define LIKENESS_TRAIN_PHOTOS_H

#include "file/image.h"
#include "train/watch.h"

/* Pictures in a folder, sorted by name (diffusers takes the order of the directory, which differs
 * from machine to machine). Held decoded and resized: 3 bytes a pixel. */
typedef struct photo {
    char *path;
    image picture;   /* resized: the shorter side is the resolution */
    char sha256[65]; /* of the file's bytes */
} photo;

/* What becomes of a picture's sides. */
typedef enum photo_shape {
    PHOTO_SHORTER,       /* the shorter becomes the resolution */
    PHOTO_SQUARE,        /* both do, with Pillow's bicubic, whatever they were */
    PHOTO_CENTER_SQUARE, /* both do, of the middle */
} photo_shape;

typedef struct photo_set {
    photo *item;
    size_t count;
    size_t mirrored; /* the last so many are the others, left to right */
    int resolution;
    photo_shape shape;
    char *skipped; /* one line naming what lies in the folder but is no picture; NULL: nothing */
} photo_set;

/* Files whose names begin with a dot, folders, and files that are no picture by content AND ending
 * (.txt, .json, ...) are skipped and told in `skipped`; a file with a picture's ending (.png .jpg
 * .gif
 * ...) that cannot be read is an error that names it. limit: at most that many, 0: all. An empty or
 * missing folder is an error, and so is one with no picture. manifest.json is silently passed over.
 * what: "instance" or "class", for messages. On failure *out is empty. */
bool photo_set_open(photo_set *out, const char *folder, int resolution, size_t limit,
                    const char *what, error *e);
/* The same, with somebody watching who may stop it. */
bool photo_set_open_watched(photo_set *out, const char *folder, int resolution, size_t limit,
                            const char *what, const train_watch *watch, error *e);
/* As textual_inversion.py has them: square, of their middle where center_crop says so, and each
 * mirrored too. In memory where pictures are given, else of the folder. */
bool photo_set_open_square(photo_set *out, const char *folder, const image *const *pictures,
                           size_t count, int resolution, bool center_crop, const train_watch *watch,
                           error *e);
/* The same of pictures in memory, which are copied: "picture-1" and on, hashed by their sizes and
 * pixels. */
bool photo_set_copy(photo_set *out, const image *const *pictures, size_t count, int resolution,
                    error *e);
void photo_set_close(photo_set *s);
/* The hash of a picture in memory. */
void photo_hash(const image *m, char sha256[65]);

/* Which files of a folder photo_set_open would take, and the hash of each one's bytes, without
 * decoding any. A folder that is missing has none. limit as above. */
typedef struct photo_file {
    char *name;
    char sha256[65];
} photo_file;
typedef struct photo_files {
    photo_file *item;
    size_t count;
} photo_files;
bool photo_files_list(photo_files *out, const char *folder, size_t limit, error *e);
void photo_files_free(photo_files *f);

/* True where every picture fits the square as it is or the crop is the centre: no draws, so its
 * latents can be computed once. */
bool photo_set_fixed(const photo_set *s, bool center_crop);

typedef struct crop {
    int top, left;
} crop;
/* torchvision's centre: round((L - size) / 2), halves to even. */
crop photo_center(const photo *p, int resolution);
/* [resolution, resolution, 3] in -1..1 (pipeline/encode.h). */
void photo_pixels(const photo *p, crop c, int resolution, float *out);

#endif
