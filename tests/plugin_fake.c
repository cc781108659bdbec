/* SPDX-License-Identifier: Apache-2.0
 *
 * plugin_fake: a plug-in without hardware, as test_device_plugin.c wants it: FAKE_SYMBOL, FAKE_ABI
 * and FAKE_VERSION are what it gives itself out for; FAKE_NEEDS is a function that nobody has. */
#include <string.h>

#include "device/plugin.h"

#ifdef FAKE_NEEDS
void FAKE_NEEDS(void);
#endif

static bool fake_make(device **out, const char *name, const device_options *o, error *e)
{
    (void)o;
    *out = NULL;
#ifdef FAKE_NEEDS
    FAKE_NEEDS();
#endif
    e->code = ERROR_USAGE;
    strcpy(e->text, strcmp(name, "cuda:9") == 0 ? "there is no cuda:9" : "no driver");
    return false;
}

static bool fake_card(int i, device_card *out, error *e)
{
    (void)e;
    *out = (device_card){.name = "cuda:0", .text = "a fake", .memory = 2, .left = 1};
    return i == 0;
}

const device_plugin *FAKE_SYMBOL(void);
__attribute__((visibility("default"))) const device_plugin *FAKE_SYMBOL(void)
{
    static const device_plugin plugin = {
        FAKE_ABI, sizeof(device), FAKE_VERSION, {"cuda", fake_make, fake_card}};
    return &plugin;
}
