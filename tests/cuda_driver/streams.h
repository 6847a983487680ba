/* SPDX-License-Identifier: Apache-2.0 */
/* Between the emulated CUDA runtime and the driver that stands in for NVIDIA's (driver.cpp): the runtime puts its work on the driver's
 * streams. Where no such driver is loaded there are no streams, and work is done when it is put.
 *
 * The stand-in does nothing before something waits for it, and the work of several streams in a drawn order, so that what forgets to
 * wait, or to use its own stream, shows. A stream that is captured records its work, for graphs to do as often as they are launched; what a
 * capture does not allow is answered as NVIDIA's driver answers it, and the capture is lost. Memory is the host's, with NaN in it. Time is
 * counted, not measured: each work takes a microsecond. */
#ifndef ATTN_TESTS_CUDA_STREAMS_H
#define ATTN_TESTS_CUDA_STREAMS_H

struct CUstream_st;

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attn_work {
    int (*run)(void *argument);     /* 0, or an error's number, which loses the device */
    void (*forget)(void *argument); /* once, when it will not be run again */
    void *argument;
} attn_work;

/* What the driver exports beside NVIDIA's functions; each answers 0 or an error's number. put takes the work over, whatever it answers. */
typedef int (*attn_driver_put_entry)(struct CUstream_st *stream, const attn_work *work);
typedef int (*attn_driver_wait_entry)(struct CUstream_st *stream);
typedef int (*attn_driver_allow_entry)(void); /* before what the calling thread may not do while it captures */
#define ATTN_DRIVER_PUT "attn_driver_put"
#define ATTN_DRIVER_WAIT "cuStreamSynchronize"
#define ATTN_DRIVER_ALLOW "attn_driver_allow"

#ifdef __cplusplus
}
#endif

#endif
