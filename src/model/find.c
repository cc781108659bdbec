/* SPDX-License-Identifier: Apache-2.0
 *
 * find: where the pocket model lies. */
#include "model/find.h"

#include <stdlib.h>

#include "base/platform.h"

char *find_pocket(error *e)
{
    const char *models = getenv("LIKENESS_MODELS");
    if (models && *models) {
        char *found = path_join(models, "pocket");
        if (found && path_is_dir(found)) return found;
        free(found);
        error_set(e, ERROR_FILE, "$LIKENESS_MODELS is %s, but there is no folder pocket in it",
                  models);
        return NULL;
    }
    char *found = path_beside("models/pocket");
    if (!found)
        error_set(e, ERROR_FILE,
                  "the pocket model is not beside the program; say where a model is (-m), or "
                  "set LIKENESS_MODELS to the folder that holds pocket");
    return found;
}
