/* SPDX-License-Identifier: Apache-2.0 */
/* NVIDIA's driver, loaded at run time: what the test kit and the GPU's benchmark need beside the library, without the CUDA toolkit. Names,
 * types and numbers are those of the driver interface's documentation. */
#ifndef ATTN_TESTS_DRIVER_H
#define ATTN_TESTS_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t driver_pointer; /* of the device's memory; with one address space it is what kernels and hosts see */
typedef struct CUstream_st *driver_stream;
typedef struct CUevent_st *driver_event;
typedef struct CUgraph_st *driver_graph;
typedef struct CUgraphExec_st *driver_graph_exec;

enum {
    DRIVER_STREAM_NON_BLOCKING = 1,
    DRIVER_HOST_PORTABLE = 1,
    DRIVER_HOST_DEVICE_MAP = 2,
    DRIVER_CAPTURE_THREAD = 1
};

/* Attributes of a device; clocks in kHz. */
enum { DRIVER_CLOCK_RATE = 13, DRIVER_MULTIPROCESSORS = 16, DRIVER_MEMORY_CLOCK_RATE = 36 };

/* Field, exported name, parameters; each answers 0 or an error's number. */
#define DRIVER_FUNCTIONS(X)                                                                                            \
    X(init, "cuInit", (unsigned flags))                                                                                \
    X(version, "cuDriverGetVersion", (int *version))                                                                   \
    X(device_get, "cuDeviceGet", (int *device, int ordinal))                                                           \
    X(device_name, "cuDeviceGetName", (char *name, int room, int device))                                              \
    X(device_attribute, "cuDeviceGetAttribute", (int *value, int attribute, int device))                               \
    X(context_retain, "cuDevicePrimaryCtxRetain", (void **context, int device))                                        \
    X(context_set, "cuCtxSetCurrent", (void *context))                                                                 \
    X(synchronize, "cuCtxSynchronize", (void))                                                                         \
    X(host_register, "cuMemHostRegister_v2", (void *memory, size_t bytes, unsigned flags))                             \
    X(host_unregister, "cuMemHostUnregister", (void *memory))                                                          \
    X(alloc, "cuMemAlloc_v2", (driver_pointer * memory, size_t bytes))                                                 \
    X(free, "cuMemFree_v2", (driver_pointer memory))                                                                   \
    X(to_device, "cuMemcpyHtoD_v2", (driver_pointer to, const void *from, size_t bytes))                               \
    X(to_host, "cuMemcpyDtoH_v2", (void *to, driver_pointer from, size_t bytes))                                       \
    X(copy, "cuMemcpyDtoDAsync_v2", (driver_pointer to, driver_pointer from, size_t bytes, driver_stream stream))      \
    X(fill, "cuMemsetD32Async", (driver_pointer to, unsigned value, size_t count, driver_stream stream))               \
    X(stream_create, "cuStreamCreate", (driver_stream * stream, unsigned flags))                                       \
    X(stream_destroy, "cuStreamDestroy_v2", (driver_stream stream))                                                    \
    X(stream_wait, "cuStreamSynchronize", (driver_stream stream))                                                      \
    X(capture_begin, "cuStreamBeginCapture_v2", (driver_stream stream, int mode))                                      \
    X(capture_end, "cuStreamEndCapture", (driver_stream stream, driver_graph * graph))                                 \
    X(graph_instantiate, "cuGraphInstantiateWithFlags",                                                                \
      (driver_graph_exec * exec, driver_graph graph, unsigned long long flags))                                        \
    X(graph_launch, "cuGraphLaunch", (driver_graph_exec exec, driver_stream stream))                                   \
    X(graph_exec_destroy, "cuGraphExecDestroy", (driver_graph_exec exec))                                              \
    X(graph_destroy, "cuGraphDestroy", (driver_graph graph))                                                           \
    X(event_create, "cuEventCreate", (driver_event * event, unsigned flags))                                           \
    X(event_record, "cuEventRecord", (driver_event event, driver_stream stream))                                       \
    X(event_wait, "cuEventSynchronize", (driver_event event))                                                          \
    X(event_elapsed, "cuEventElapsedTime", (float *milliseconds, driver_event from, driver_event to))                  \
    X(event_destroy, "cuEventDestroy_v2", (driver_event event))

typedef struct driver {
#define X(field, name, parameters) int(*field) parameters;
    DRIVER_FUNCTIONS(X)
#undef X
} driver;

/* The driver with the first device's own context current, which the CUDA runtime uses too. NULL where there is none: *why says what is missing. */
const driver *driver_open(const char **why);

/* Ends the program with the expression's text unless it answers 0. */
#define DRIVER_MUST(call) driver_must(call, #call)
void driver_must(int error, const char *what);

#endif
