/* SPDX-License-Identifier: Apache-2.0
 *
 * find: where what comes with the program lies. */
#include "model/find.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"

/* The path malloc'ed; NULL when no folder is there (or memory is out). */
static char *folder_at(const char *folder, const char *below)
{
    char *path = string_format("%s/%s", folder, below);
    if (path && path_is_dir(path)) return path;
    free(path);
    return NULL;
}

char *find_pocket(error *e)
{
    const char *models = getenv("LIKENESS_MODELS");
    if (models && *models) {
        char *found = folder_at(models, "pocket");
        if (!found)
            error_set(e, ERROR_FILE, "$LIKENESS_MODELS is %s, but there is no folder pocket in it",
                      models);
        return found;
    }
    char *program = path_of_program(), *found = NULL;
    if (program) {
        found = folder_at(program, "models/pocket");
        if (!found) found = folder_at(program, "../models/pocket");
        if (!found) found = folder_at(program, "../share/likeness/models/pocket");
    }
    free(program);
    if (!found) found = folder_at(LIKENESS_SOURCE_DIR, "models/pocket");
    if (!found)
        error_set(e, ERROR_FILE,
                  "the pocket model is not beside the program; say where a model is (-m), or "
                  "set LIKENESS_MODELS to the folder that holds pocket");
    return found;
}
