/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a GGUF file: opened or refused; of an opened one every byte can
 * be read. */
#include "fuzz.h"

#include "file/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    error e = {0};
    safetensors s;
    fuzz_file f = fuzz_open(data, size);
    bool ok = gguf_open(&s, f.path, &e);
    fuzz_check(ok, &e);
    for (size_t i = 0; ok && i < s.count; i++) {
        const volatile uint8_t *bytes = s.entry[i].data;
        if (safetensors_find(&s, s.entry[i].name) != &s.entry[i]) abort();
        for (uint64_t k = 0; k < s.entry[i].bytes && k < 1 << 20; k++) (void)bytes[k];
        if (s.entry[i].bytes) (void)bytes[s.entry[i].bytes - 1];
    }
    if (ok) safetensors_close(&s);
    fuzz_close(&f);
    return 0;
}
