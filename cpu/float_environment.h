/* SPDX-License-Identifier: Apache-2.0 */
/* The floating-point state that a run computes in: rounding to nearest, no trap, and subnormals as the calling thread treats them; the same in every
 * thread that works for the run. The host's own state, flags included, is back when a run returns and while the host's parallel-for is
 * outside a task. */
#ifndef ATTN_CPU_FLOAT_ENVIRONMENT_H
#define ATTN_CPU_FLOAT_ENVIRONMENT_H

#include <stdint.h>

#if defined(__x86_64__)
typedef uint32_t attn_float_environment; /* MXCSR: the kernels, and OpenBLAS's, are of SSE and what came after it */
#else
#include <fenv.h>
typedef fenv_t attn_float_environment;
#endif

/* Around a run, in the calling thread. */
void attn_float_enter(void);
void attn_float_leave(void);

/* The state of this thread. */
attn_float_environment attn_float_state(void);

/* Takes over a run's state, whatever this thread's was; answers that. */
attn_float_environment attn_float_join(attn_float_environment run);
void attn_float_restore(attn_float_environment before);

/* Around what the host does in the middle of a run, which may hold another run. */
typedef struct attn_float_pause {
    attn_float_environment run, host;
} attn_float_pause;
attn_float_pause attn_float_pause_run(void);
void attn_float_resume_run(attn_float_pause pause);

#endif
