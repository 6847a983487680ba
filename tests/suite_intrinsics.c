/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels' intrinsics of AVX-512 do, where the library says that it has the set: emulated, or by the processor. */
#include "tests/intrinsics_avx512.h"
#include "tests/suite.h"

#include <sys/mman.h>
#include <unistd.h>

Test(intrinsics, avx512) {
    attn_context *context = kit_context(1, NULL);
    const bool runs = !strcmp(attn_context_isa(context), "avx512");
    attn_context_destroy(context);
    if (!runs) return;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(pages != MAP_FAILED);
    cr_assert(mprotect(pages + page, page, PROT_NONE) == 0);
    const char *wrong = attn_check_intrinsics(pages + page);
    cr_assert(wrong == NULL, "_mm512_%s is not what its definition says", wrong);
    munmap(pages, 2 * page);
}
