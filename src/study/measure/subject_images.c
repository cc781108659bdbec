/* SPDX-License-Identifier: Apache-2.0
 *
 * subject_images: see subject_images.h. */
#include "subject_images.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/folder.h"
#include "base/platform.h"
#include "measured.h"

void subject_image_name(char out[64], int subject, bool of_class, int index)
{
    snprintf(out, 64, "subject/%d-%s%02d.png", subject + 1, of_class ? "class-" : "", index + 1);
}

static bool write_crop(const lk_photos *photos, size_t i, const char *folder, const char *name,
                       error *e)
{
    lk_error why = {0};
    lk_image *square = NULL;
    char *path = path_join(folder, name);
    if (!path) return error_memory(e, name, strlen(folder) + 64);
    bool ok = (lk_photos_image(&square, photos, i, &why) && lk_image_save(square, path, &why)) ||
              engine_failed(&why, e);
    lk_image_close(&square);
    free(path);
    return ok;
}

/* from NULL, or a folder that cannot be read any more: none. */
static bool write_some(int *count, const char *from, int resolution, int most, int subject,
                       bool of_class, const char *folder, error *e)
{
    lk_photos *photos = NULL;
    error why = {0};
    *count = 0;
    if (!from) return true;
    if (!measured_photos(&photos, from, resolution, (size_t)most, of_class, &why)) {
        if (why.code != ERROR_MEMORY) return true;
        *e = why;
        return false;
    }
    bool ok = true;
    for (size_t i = 0; ok && i < lk_photos_count(photos); i++) {
        char name[64];
        subject_image_name(name, subject, of_class, (int)i);
        ok = write_crop(photos, i, folder, name, e);
        *count += ok;
    }
    lk_photos_close(&photos);
    return ok;
}

/* Of a training: as its settings have it, or the model's own. */
static int resolution_of(const measure_source *s, int who)
{
    const lk_train_options *t = &s->plan->model[who].train;
    return t->resolution ? t->resolution : engine_resolution(s->models[s->plan->model[who].base]);
}

bool subject_images_write(subject_images *out, const measure_source *s, const study_measures *m,
                          error *e)
{
    char *place = path_join(s->folder, "subject");
    bool ok = place ? !m->subjects || path_make_dir(place, e)
                    : error_memory(e, "a folder's name", 64);
    if (ok) folder_sweep(place);
    for (int i = 0; ok && i < m->subjects; i++) {
        const subject_row *r = &m->subject[i];
        int side = resolution_of(s, r->model[0]);
        const char *classes = NULL;
        for (int k = 0; k < r->models && !classes && s->class_folder; k++)
            classes = s->class_folder[r->model[k]];
        ok = write_some(&out[i].photos, s->plan->model[r->model[0]].train.instance_data_dir, side,
                        SUBJECT_PHOTOS_SHOWN, i, false, s->folder, e) &&
             write_some(&out[i].classes, classes, side, SUBJECT_CLASSES_SHOWN, i, true, s->folder,
                        e);
    }
    free(place);
    return ok;
}
