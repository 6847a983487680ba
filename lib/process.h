/* SPDX-License-Identifier: Apache-2.0 */
/* What the library has to know of the process that it runs in. */
#ifndef ATTN_LIB_PROCESS_H
#define ATTN_LIB_PROCESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* A number that this process and none of its forks answers with. The process id alone is not enough: every first process of
 * a PID namespace has the same, and ids come again. */
uint64_t attn_process_stamp(void);

/* Whether the program was linked without a dynamic loader: dlopen is then not to be called, for the C library's own copy
 * loads libraries against another C library, or crashes. */
bool attn_process_is_static(void);

/* A thread that is cancelled inside the library would leave locks held and runs open, for which others wait. So cancellation
 * is off in every function that may block or call the host, and comes into effect at the host's next cancellation point. */
static inline int attn_cancel_off(void) {
    int before = PTHREAD_CANCEL_ENABLE;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

static inline void attn_cancel_restore(const int *before) {
    int off;
    pthread_setcancelstate(*before, &off);
}

/* A declaration: to the end of its block, however that is left. */
#define ATTN_WITHOUT_CANCELLATION                                                                                      \
    __attribute__((cleanup(attn_cancel_restore), unused)) const int cancellation_before = attn_cancel_off()

#endif
