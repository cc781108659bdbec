/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a study's plan. */
#include "fuzz.h"

#include "study/plan/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    error e = {0};
    study_plan p;
    fuzz_file f = fuzz_open(data, size);
    bool ok = study_plan_read(&p, f.path, SOURCE_DIR "/examples", &e);
    fuzz_check(ok, &e);
    if (ok) study_plan_close(&p);
    fuzz_close(&f);
    return 0;
}
