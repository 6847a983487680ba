/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/cublas.h"

#include "cuda/device.h"

#include <cstdio>
#include <cstring>
#include <dlfcn.h>

namespace {

/* Values of cublas_api.h and library_types.h. */
enum { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, ARCH_MISMATCH = 8 };
enum { POINTERS_HOST = 0, ATOMICS_NOT_ALLOWED = 0, FLOAT_WITHOUT_SHORT_SUMS = 16 };
enum { NO_TRANSPOSE = 0, TRANSPOSE = 1, COMPUTE_FLOAT = 68, ALGORITHM_DEFAULT = -1 };
enum { REAL_FLOAT = 0, REAL_HALF = 2, REAL_BFLOAT = 14 };

enum { OLDEST = 12 }; /* the first with 64-bit sizes */
enum : std::size_t { MEGABYTE = 1 << 20, WORKSPACE_ALIGNMENT = 256, MOST_BATCHES = 65535 };

/* ---- Loading -------------------------------------------------------------------------------------- */

struct name_of_function {
    const char *name;
    std::size_t offset;
};

#define FUNCTION(name, member)                                                                                         \
    { name, offsetof(attn_cublas_functions, member) }
const name_of_function names[] = {
    FUNCTION("cublasGetProperty", get_property),
    FUNCTION("cublasCreate_v2", create),
    FUNCTION("cublasDestroy_v2", destroy),
    FUNCTION("cublasSetStream_v2", set_stream),
    FUNCTION("cublasGetStream_v2", get_stream),
    FUNCTION("cublasSetWorkspace_v2", set_workspace),
    FUNCTION("cublasSetMathMode", set_math_mode),
    FUNCTION("cublasGetMathMode", get_math_mode),
    FUNCTION("cublasSetPointerMode_v2", set_pointer_mode),
    FUNCTION("cublasGetPointerMode_v2", get_pointer_mode),
    FUNCTION("cublasSetAtomicsMode", set_atomics_mode),
    FUNCTION("cublasGetAtomicsMode", get_atomics_mode),
    FUNCTION("cublasGemmStridedBatchedEx_64", gemm),
};

/* Whether the library has all of them, and is new enough. */
bool adopt(attn_cublas *blas, void *library) {
    for (const name_of_function &function : names) {
        void *const symbol = dlsym(library, function.name);
        if (!symbol) return false;
        std::memcpy(reinterpret_cast<char *>(&blas->call) + function.offset, &symbol, sizeof symbol);
    }
    int version[3];
    for (int i = 0; i < 3; i++)
        if (blas->call.get_property(i, &version[i]) != SUCCESS) return false;
    if (version[0] < OLDEST) return false;
    std::snprintf(blas->text, sizeof blas->text, "cuBLAS %d.%d.%d", version[0], version[1], version[2]);
    return true;
}

/* A library stays loaded until the process ends, as the module does. */
void load(attn_cublas *blas) {
#ifdef ATTN_CUBLAS_LIBRARY
    const char *const candidates[] = {ATTN_CUBLAS_LIBRARY};
#else
    static const char *const candidates[] = {"libcublas.so.13", "libcublas.so", "libcublas.so.12"};
#endif
    for (std::size_t i = 0; i < sizeof candidates / sizeof *candidates && !blas->loaded; i++) {
        void *const library = dlopen(candidates[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        const char *const why = library ? nullptr : dlerror();
        if (library)
            blas->loaded = adopt(blas, library);
        else if (i == 0)
            std::snprintf(blas->text, sizeof blas->text, "no cuBLAS: %.140s", why ? why : "no memory");
        if (library && !blas->loaded)
            std::snprintf(blas->text, sizeof blas->text, "no cuBLAS: %.80s is older than version 12", candidates[i]);
        if (library) dlclose(library);
    }
}

/* A failure of the device shows in the runtime's record too. */
attn_status status_of(int found) {
    if (found == SUCCESS) return ATTN_OK;
    if (found == ALLOC_FAILED) return ATTN_ERROR_OUT_OF_MEMORY;
    if (found == ARCH_MISMATCH) return ATTN_ERROR_ARCHITECTURE;
    return attn_cuda_status(cudaPeekAtLastError()) == ATTN_ERROR_DEVICE_LOST ? ATTN_ERROR_DEVICE_LOST
                                                                             : ATTN_ERROR_INTERNAL;
}

/* With the lock held: NULL, or why there is no handle. */
const char *make_handle(attn_cublas *blas, const attn_device *device) {
    if (!blas->loaded) load(blas);
    if (!blas->loaded) return blas->text;
    if (blas->handle) return nullptr;
    const attn_current_device current(device->options.ordinal);
    if (current.error != cudaSuccess) {
        attn_cuda_take(current.error);
        return "the device can't be made the current one";
    }
    cublasContext *handle = nullptr;
    int found = blas->call.create(&handle);
    if (found == SUCCESS) {
        found = blas->call.set_stream(handle, device->stream());
        if (found == SUCCESS) found = blas->call.set_math_mode(handle, FLOAT_WITHOUT_SHORT_SUMS);
        if (found != SUCCESS) blas->call.destroy(handle);
    }
    if (found == ALLOC_FAILED || found == NOT_INITIALIZED) return "cuBLAS found no memory for a handle";
    if (found != SUCCESS) return "cuBLAS failed to make a handle";
    blas->handle = handle;
    return nullptr;
}

attn_cublas *of(const attn_device *device) { return &device->blas; }

class locked {
  public:
    explicit locked(attn_cublas *given) : blas(given) { pthread_mutex_lock(&blas->lock); }
    ~locked() { pthread_mutex_unlock(&blas->lock); }
    locked(const locked &) = delete;
    locked &operator=(const locked &) = delete;

  private:
    attn_cublas *blas;
};

} // namespace

void attn_cublas_open(attn_cublas *blas, cublasContext *foreign) {
    pthread_mutex_init(&blas->lock, nullptr);
    blas->handle = foreign, blas->foreign = foreign != nullptr;
}

void attn_cublas_close(attn_cublas *blas, bool same_process) {
    if (blas->handle && !blas->foreign && same_process) blas->call.destroy(blas->handle);
    pthread_mutex_destroy(&blas->lock);
}

const char *attn_cublas_refusal(const attn_device *device) {
    if (attn_cuda_ready(device)) return "the context was made before a fork, or an error is pending on its device";
    const locked holding(of(device));
    return make_handle(of(device), device);
}

const char *attn_cublas_text(const attn_device *device) {
    const locked holding(of(device));
    if (!of(device)->loaded) load(of(device));
    return of(device)->text;
}

/* As much as cuBLAS takes by itself: its fastest kernels ask for that. */
std::size_t attn_cublas_workspace_size(const attn_device *device) {
#ifdef ATTN_CUDA_CUBLAS_WORKSPACE
    const std::size_t own = ATTN_CUDA_CUBLAS_WORKSPACE;
#else
    const std::size_t own = (device->capability >= 90 ? 32 : 4) * MEGABYTE;
#endif
    return device->blas.foreign ? 0 : own + WORKSPACE_ALIGNMENT;
}

/* ---- Runs ------------------------------------------------------------------------------------------- */

attn_cublas_run::attn_cublas_run(const attn_device *device, void *workspace)
    : status(ATTN_OK), blas(of(device)), stream(device->stream()), previous_stream(nullptr), previous_math(0),
      previous_pointer(0), previous_atomics(0), borrowed(false) {
    pthread_mutex_lock(&blas->lock);
    int found = blas->foreign ? borrow() : SUCCESS;
    if (!blas->foreign) {
        const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(workspace);
        const std::uintptr_t aligned = (start + WORKSPACE_ALIGNMENT - 1) / WORKSPACE_ALIGNMENT * WORKSPACE_ALIGNMENT;
        found = blas->call.set_workspace(blas->handle, reinterpret_cast<void *>(aligned),
                                         attn_cublas_workspace_size(device) - WORKSPACE_ALIGNMENT);
    }
    status = status_of(found);
}

/* A stream is set only where it is another one: that takes the handle's workspace from it. */
int attn_cublas_run::borrow() {
    const attn_cublas_functions &call = blas->call;
    int found = call.get_stream(blas->handle, &previous_stream);
    if (found == SUCCESS) found = call.get_math_mode(blas->handle, &previous_math);
    if (found == SUCCESS) found = call.get_pointer_mode(blas->handle, &previous_pointer);
    if (found == SUCCESS) found = call.get_atomics_mode(blas->handle, &previous_atomics);
    if (found != SUCCESS) return found;
    borrowed = true;
    if (previous_stream != stream) found = call.set_stream(blas->handle, stream);
    if (found == SUCCESS) found = call.set_math_mode(blas->handle, FLOAT_WITHOUT_SHORT_SUMS);
    if (found == SUCCESS) found = call.set_pointer_mode(blas->handle, POINTERS_HOST);
    if (found == SUCCESS) found = call.set_atomics_mode(blas->handle, ATOMICS_NOT_ALLOWED);
    return found;
}

attn_cublas_run::~attn_cublas_run() {
    if (borrowed) {
        const attn_cublas_functions &call = blas->call;
        if (previous_stream != stream) call.set_stream(blas->handle, previous_stream);
        call.set_math_mode(blas->handle, previous_math);
        call.set_pointer_mode(blas->handle, previous_pointer);
        call.set_atomics_mode(blas->handle, previous_atomics);
    }
    pthread_mutex_unlock(&blas->lock);
}

namespace {

int type_of(attn_dtype dtype) {
    return dtype == ATTN_FLOAT16 ? REAL_HALF : dtype == ATTN_BFLOAT16 ? REAL_BFLOAT : REAL_FLOAT;
}

std::size_t size_of(attn_dtype dtype) { return dtype == ATTN_FLOAT32 ? sizeof(float) : sizeof(std::uint16_t); }

const void *moved(const void *data, std::ptrdiff_t elements, attn_dtype dtype) {
    return static_cast<const char *>(data) + elements * static_cast<std::ptrdiff_t>(size_of(dtype));
}

/* Batches with as few dimensions as their steps allow, the longest last: that one is cuBLAS's. */
void join(const attn_gemm_batch *given, attn_gemm_batch *joined) {
    std::size_t dims = 0;
    for (std::size_t i = 0; i < 3; i++) {
        const attn_gemm_batch &d = given[i];
        if (d.count == 1) continue;
        attn_gemm_batch *const last = dims > 0 ? &joined[dims - 1] : nullptr;
        const std::ptrdiff_t count = static_cast<std::ptrdiff_t>(d.count);
        if (last && last->a == count * d.a && last->b == count * d.b && last->c == count * d.c) {
            const attn_gemm_batch both = {last->count * d.count, d.a, d.b, d.c};
            *last = both;
        } else {
            joined[dims++] = d;
        }
    }
    for (; dims < 3; dims++) joined[dims] = {1, 0, 0, 0};
    for (std::size_t i = 0; i < 2; i++)
        if (joined[i].count > joined[2].count) {
            const attn_gemm_batch longer = joined[i];
            joined[i] = joined[2], joined[2] = longer;
        }
}

/* cuBLAS is column-major: there the row-major C is its transpose, op(B)' op(A)'. */
int multiply_row(const attn_cublas *blas, const attn_gemm &g, const attn_gemm_batch &batch, std::ptrdiff_t a,
                 std::ptrdiff_t b, std::ptrdiff_t c) {
    int found = SUCCESS;
    for (std::size_t first = 0; first < batch.count && found == SUCCESS; first += MOST_BATCHES) {
        const std::size_t left = batch.count - first, count = left < MOST_BATCHES ? left : +MOST_BATCHES;
        const std::ptrdiff_t skipped = static_cast<std::ptrdiff_t>(first);
        found = blas->call.gemm(
            blas->handle, g.transpose_b ? TRANSPOSE : NO_TRANSPOSE, g.transpose_a ? TRANSPOSE : NO_TRANSPOSE,
            static_cast<std::int64_t>(g.columns), static_cast<std::int64_t>(g.rows), static_cast<std::int64_t>(g.depth),
            &g.alpha, moved(g.b, b + skipped * batch.b, g.stored), type_of(g.stored), g.b_row, batch.b,
            moved(g.a, a + skipped * batch.a, g.stored), type_of(g.stored), g.a_row, batch.a, &g.beta,
            const_cast<void *>(moved(g.c, c + skipped * batch.c, g.result)), type_of(g.result), g.c_row, batch.c,
            static_cast<std::int64_t>(count), COMPUTE_FLOAT, ALGORITHM_DEFAULT);
    }
    return found;
}

} // namespace

attn_status attn_cublas_run::multiply(const attn_gemm &gemm) {
    attn_gemm_batch batches[3];
    join(gemm.batches, batches);
    const attn_gemm_batch &outer = batches[0], &middle = batches[1];
    int found = SUCCESS;
    for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(outer.count); i++)
        for (std::ptrdiff_t j = 0; j < static_cast<std::ptrdiff_t>(middle.count) && found == SUCCESS; j++)
            found = multiply_row(blas, gemm, batches[2], i * outer.a + j * middle.a, i * outer.b + j * middle.b,
                                 i * outer.c + j * middle.c);
    return status_of(found);
}

attn_status attn_cublas_run::multiply_in_parts(const attn_gemm &gemm, std::size_t length) {
    std::size_t terms = ATTN_LEAST_PART;
    while (terms < length / terms) terms += ATTN_LEAST_PART;
    attn_gemm part = gemm;
    attn_status found = ATTN_OK;
    for (std::size_t term = 0; term < gemm.depth && !found; term += terms) {
        const std::ptrdiff_t skipped = static_cast<std::ptrdiff_t>(term);
        part.depth = gemm.depth - term < terms ? gemm.depth - term : terms;
        part.a = moved(gemm.a, skipped * (gemm.transpose_a ? gemm.a_row : 1), gemm.stored);
        part.b = moved(gemm.b, skipped * (gemm.transpose_b ? 1 : gemm.b_row), gemm.stored);
        if (term > 0) part.beta = 1.0f;
        found = multiply(part);
    }
    return found;
}
