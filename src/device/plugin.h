/* SPDX-License-Identifier: Apache-2.0
 *
 * plugin: hardware that is not linked in. liblikeness-cuda.so has one function by which it is
 * known; it is loaded when somebody wants a GPU, and nothing of CUDA is needed before. */
#ifndef LIKENESS_DEVICE_PLUGIN_H
#define LIKENESS_DEVICE_PLUGIN_H

#include "device/device.h"

/* Grows with every change of device.h that a plug-in can see. */
enum { DEVICE_ABI = 7 };

/* The first three members stay what they are. */
typedef struct device_plugin {
    uint32_t abi;        /* DEVICE_ABI */
    uint32_t size;       /* of a device */
    const char *version; /* of likeness */
    device_kind kind;
} device_plugin;

/* Whether there is a file of that name where it is looked for; it may be unfit. */
bool plugin_is_there(void);

#define DEVICE_PLUGIN_SYMBOL "likeness_device_plugin"
typedef const device_plugin *device_plugin_function(void);

/* Loads one, for good, and sees whether it is of this version. NULL, and the error. */
const device_plugin *plugin_load(const char *path, error *e);

#endif
