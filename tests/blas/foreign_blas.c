/* SPDX-License-Identifier: Apache-2.0 */
/* A BLAS of the host's own, linked into its program and exported: nobody but the host may ever call it. */
#include <stdio.h>
#include <stdlib.h>

#define FOREIGN(name)                                                                                                  \
    __attribute__((visibility("default"))) void name(void);                                                            \
    void name(void) {                                                                                                  \
        fputs("the host's " #name " was called\n", stderr);                                                            \
        abort();                                                                                                       \
    }

FOREIGN(cblas_sgemm)
FOREIGN(cblas_dgemm)
FOREIGN(cblas_sgemv)
FOREIGN(cblas_dgemv)
FOREIGN(sgemm_)
FOREIGN(xerbla_)
FOREIGN(openblas_get_config)
FOREIGN(openblas_get_corename)
FOREIGN(openblas_set_num_threads)

/* The inside of another OpenBLAS. Where a sanitizer refuses RTLD_DEEPBIND, nothing can keep these apart. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
FOREIGN(openblas_read_env)
FOREIGN(blas_memory_alloc)
FOREIGN(blas_memory_free)
FOREIGN(blas_thread_init)
FOREIGN(gotoblas_dynamic_init)
FOREIGN(sgemm_nn)
FOREIGN(sgemm_nt)
__attribute__((visibility("default"))) extern char gotoblas[64];
char gotoblas[64];
#endif
