/* SPDX-License-Identifier: Apache-2.0
 *
 * engine: see engine.h. */
#include "study/engine.h"

_Static_assert((int)LK_CANCELLED == (int)ERROR_CANCELLED, "codes of errors are the same");

bool engine_failed(const lk_error *why, error *e)
{
    return error_set(e, (error_code)why->code, "%s", why->text);
}

int engine_resolution(const lk_model *m)
{
    lk_model_info info;
    lk_model_describe(m, &info);
    return info.width;
}

const char *engine_precision(lk_precision precision)
{
    return precision == LK_F16 ? "F16" : precision == LK_BF16 ? "BF16" : "F32";
}
