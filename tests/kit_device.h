/* SPDX-License-Identifier: Apache-2.0 */
/* The kit's memory as a GPU sees it. An emulated module reads the host's memory as it is. For a real one, and where
 * the program has loaded a driver, each buffer's pages are registered with the
 * driver: kernels read and write them at the same addresses, over the bus, and fault on the unreadable pages beside them as the CPU does. */
#ifndef ATTN_TESTS_KIT_DEVICE_H
#define ATTN_TESTS_KIT_DEVICE_H

#include <stddef.h>

/* From here on buffers are for this module's device; ends the program when there is none. NULL: the module beside the library. */
void kit_device_use(const char *module);

/* The module that was given, or by ATTN_TEST_ON in the environment; NULL: buffers are for the CPU. */
const char *kit_device_module(void);

void kit_device_add(void *pages, size_t bytes);
void kit_device_remove(void *pages, size_t bytes);

/* Until the device has done all that it was given; ends the program when it failed. */
void kit_device_wait(void);

#endif
