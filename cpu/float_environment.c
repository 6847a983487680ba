/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/float_environment.h"

/* What the thread's state was before the run that it is in. */
static _Thread_local attn_float_environment host;

#if defined(__x86_64__)
#include <xmmintrin.h>

enum {
    FLAGS = 0x3f,
    SUBNORMALS = 0x8040, /* flushed to zero, read as zero */
    MASKED_NEAREST = 0x1f80
};

attn_float_environment attn_float_state(void) { return _mm_getcsr(); }

/* Reading is cheap; writing empties the pipeline. */
void attn_float_restore(attn_float_environment before) {
    if (_mm_getcsr() != before) _mm_setcsr(before);
}

void attn_float_enter(void) {
    host = _mm_getcsr();
    attn_float_restore((host & (FLAGS | SUBNORMALS)) | MASKED_NEAREST);
}

attn_float_environment attn_float_join(attn_float_environment run) {
    const attn_float_environment before = _mm_getcsr(), flags = FLAGS;
    attn_float_restore((run & ~flags) | (before & flags));
    return before;
}
#else
attn_float_environment attn_float_state(void) {
    attn_float_environment state;
    fegetenv(&state);
    return state;
}

void attn_float_restore(attn_float_environment before) { fesetenv(&before); }

void attn_float_enter(void) {
    feholdexcept(&host);
    fesetround(FE_TONEAREST);
}

attn_float_environment attn_float_join(attn_float_environment run) {
    const attn_float_environment before = attn_float_state();
    fesetenv(&run);
    return before;
}
#endif

void attn_float_leave(void) { attn_float_restore(host); }

attn_float_pause attn_float_pause_run(void) {
    const attn_float_pause pause = {attn_float_state(), host};
    attn_float_restore(host);
    return pause;
}

void attn_float_resume_run(attn_float_pause pause) {
    host = pause.host;
    attn_float_restore(pause.run);
}
