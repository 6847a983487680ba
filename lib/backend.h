/* The interface between the front-end (lib) and its backends (cpu, cuda). Arrows: lib -> backend.h <- cpu, cuda.
 *
 * The front-end validates, chooses and keeps policy-free; a backend answers what it can run and runs it. A backend
 * never validates and never calls the front-end, save for the helpers declared in this header's neighbours
 * (carve.h, which has no state). */
#ifndef ATTN_LIB_BACKEND_H
#define ATTN_LIB_BACKEND_H

#include "attention/blocks.h"

#include <stdbool.h>

typedef enum attn_operation {
    ATTN_OPERATION_LAYER_FORWARD = 0,
    ATTN_OPERATION_LAYER_BACKWARD = 1,
    ATTN_OPERATION_SDPA_FORWARD = 2,
    ATTN_OPERATION_MATMUL = 3,
    ATTN_OPERATION_SOFTMAX_FORWARD = 4,
    ATTN_OPERATION_SOFTMAX_BACKWARD = 5
} attn_operation;

/* What a context asks of a device, checked and with the environment already consulted. */
typedef struct attn_device_options {
    int threads; /* 0: as many as the process may use */
    attn_parallel_for parallel_for;
    void *parallel_for_user;
    attn_allocate allocate; /* never NULL */
    attn_release release;   /* never NULL */
    void *memory_user;
    const char *isa;     /* NULL: the best */
    const char *no_blas; /* who says that none is to be loaded; NULL: nobody does */
    bool blas_choice;    /* whether implementations on a BLAS may be chosen at all */
    bool blas_forced;    /* whether no others may */
    int ordinal;         /* of the CUDA device */
    void *stream;        /* cudaStream_t, on which every run goes */
    void *cublas;        /* cublasHandle_t of the caller's, or NULL */
} attn_device_options;

/* The layer's sizes, resolved and checked: every product of them that an implementation forms in bytes fits size_t and ptrdiff_t. */
typedef struct attn_layer_problem {
    attn_score score;
    attn_dtype dtype;
    bool given_query;
    bool training;  /* forward: kept is filled; always true in a backward pass */
    bool recompute; /* training: nothing that grows with T is kept */
    size_t batch, timesteps, features, queries, query_features, score_width,
        units;          /* queries is 1 when the query is h_t */
    attn_dtype h_dtype; /* how H is stored */
} attn_layer_problem;

/* The gradients of a backward run, resolved and checked as the rest of the call. Incoming ones that are NULL stand for zeros, outgoing ones
 * that are NULL are not wanted; at least one of each is given. */
typedef struct attn_layer_call_gradients {
    const void *output, *context, *attention_weights, *lse;
    ptrdiff_t output_batch, output_row, context_batch, context_row, weights_batch, weights_row, lse_batch;
    void *h, *query, *luong_w, *bahdanau_w1, *bahdanau_w2, *bahdanau_v, *w_c;
    ptrdiff_t h_batch, h_time, query_batch, query_row;
    bool add_h, add_query, add_weights; /* to what stands there */
} attn_layer_call_gradients;

/* One run, resolved and checked: pointers, actual sizes, strides in elements. Tensors without elements are NULL, and so are the weights
 * that the score does not have and, when prepared is not NULL, all of them. At least one output
 * is not NULL, or kept. A backward run has at least one item and one query, and no outputs. No row stride is shorter than its row, except in a mask; a dimension of one step
 * has a stride that can be added without overflow, as have all others past the last step. */
typedef struct attn_layer_call {
    attn_layer_problem sizes; /* the actual ones, each at most the planned */
    const void *h, *query;
    const int32_t *starts, *lengths; /* may be NULL; every range lies within [0, T] */
    const uint8_t *mask;
    const void *luong_w, *bahdanau_w1, *bahdanau_w2, *bahdanau_v, *w_c;
    const void *prepared; /* the implementation's own bytes (behind the front-end's header), or NULL */
    void *output, *context, *attention_weights, *lse; /* NULL: not asked for */
    ptrdiff_t h_batch, h_time, query_batch, query_row, mask_batch, mask_query,
        mask_time; /* mask_query 0: one mask for all queries */
    ptrdiff_t output_batch, output_row, context_batch, context_row, weights_batch, weights_row, lse_batch;
    void *
        kept; /* the backend's bytes (behind the front-end's header): forward in training writes them, backward reads them */
    attn_layer_call_gradients grad;
    void *workspace;
} attn_layer_call;

/* Scaled-dot-product attention, resolved and checked as the layer is. */
typedef struct attn_sdpa_problem {
    attn_dtype dtype;
    attn_causal causal;
    uint64_t flags; /* ATTN_SDPA_* */
    size_t batch, query_heads, key_heads, queries, keys, head_dim,
        value_dim;                       /* key_heads >= 1 where there are query heads */
    double scale, softcap;               /* softcap 0: none */
    ptrdiff_t window_left, window_right; /* -1: none; small enough to be added to any position */
} attn_sdpa_problem;

/* Of a tensor with up to four dimensions, in elements; that of the last one is 1 save in mask and bias. */
typedef struct attn_strides {
    ptrdiff_t batch, head, row, element;
} attn_strides;

/* One run. Tensors without elements are NULL, and so are optional ones that were not given or asked for. At least one output is not
 * NULL. No row stride of q, k, v and output is shorter than its row. */
typedef struct attn_sdpa_call {
    attn_sdpa_problem planned, sizes; /* the actual ones, each at most the planned */
    ptrdiff_t query_offset;           /* small enough to be added to any position */
    const void *q, *k, *v, *bias, *alibi_slopes, *sinks;
    const int32_t *key_lengths; /* each within [0, keys] */
    const uint8_t *mask;
    void *output, *lse, *attention_weights;
    attn_strides q_strides, k_strides, v_strides, mask_strides, bias_strides, output_strides, lse_strides,
        weights_strides;
    void *workspace;
} attn_sdpa_call;

/* The building blocks, resolved and checked in the same way. */
typedef struct attn_matmul_problem {
    attn_dtype dtype;
    bool transpose_a, transpose_b;
    size_t batch, heads, rows, columns, depth;
} attn_matmul_problem;

/* Every dimension but depth is at least 1; a and b are NULL where depth or alpha is 0. */
typedef struct attn_matmul_call {
    attn_matmul_problem sizes;
    double alpha, beta;
    const void *a, *b;
    void *c;
    attn_strides a_strides, b_strides, c_strides;
    void *workspace;
} attn_matmul_call;

typedef struct attn_softmax_problem {
    attn_dtype dtype;
    attn_causal causal;
    size_t batch, heads, queries, keys;
    double scale;
} attn_softmax_problem;

/* There is at least one query; without keys only lse, which is not NULL then. Outputs may be inputs as blocks.h allows. */
typedef struct attn_softmax_call {
    attn_softmax_problem sizes;
    ptrdiff_t query_offset; /* small enough to be added to any position */
    const void *scores;     /* forward */
    const int32_t *key_lengths;
    const uint8_t *mask;
    void *weights, *lse;
    const void *given_weights, *grad_weights, *grad_lse; /* backward */
    void *grad_scores;
    attn_strides scores_strides, mask_strides, weights_strides, lse_strides, grad_weights_strides, grad_lse_strides,
        grad_scores_strides; /* weights_strides: of given_weights too */
    void *workspace;
} attn_softmax_call;

typedef struct attn_device attn_device; /* a backend's state behind one context */

typedef struct attn_implementation attn_implementation;

/* What an implementation of scaled-dot-product attention has in place of the functions for the layer, which see. */
typedef struct attn_sdpa_functions {
    const char *(*refuse)(const attn_implementation *implementation, const attn_device *device,
                          const attn_sdpa_problem *problem, bool *hard);
    size_t (*workspace_size)(const attn_implementation *implementation, const attn_device *device,
                             const attn_sdpa_problem *planned);
    attn_status (*run)(const attn_implementation *implementation, attn_device *device, const attn_sdpa_call *call);
} attn_sdpa_functions;

typedef struct attn_matmul_functions {
    const char *(*refuse)(const attn_implementation *implementation, const attn_device *device,
                          const attn_matmul_problem *problem, bool *hard);
    size_t (*workspace_size)(const attn_implementation *implementation, const attn_device *device,
                             const attn_matmul_problem *planned);
    attn_status (*run)(const attn_implementation *implementation, attn_device *device, const attn_matmul_call *call);
} attn_matmul_functions;

typedef struct attn_softmax_functions {
    const char *(*refuse)(const attn_implementation *implementation, const attn_device *device,
                          const attn_softmax_problem *problem, bool *hard);
    size_t (*workspace_size)(const attn_implementation *implementation, const attn_device *device,
                             const attn_softmax_problem *planned);
    attn_status (*run)(const attn_implementation *implementation, attn_device *device, const attn_softmax_call *call);
} attn_softmax_functions;

struct attn_implementation {
    const char *name; /* device:isa or library:score:direction:dtype */
    attn_operation operation;
    attn_score score;
    attn_dtype dtype;
    bool batch_invariant;
    bool short_h;     /* of the layer: reads H in 16 bits too */
    const void *data; /* the implementation's own, such as its kernel table */
    /* NULL, or the reason why this implementation can't or should not run the problem on this device: features, ISA, libraries.
     * `hard` reasons stay when the implementation is forced; a soft one (slower here by measurement) does not. */
    const char *(*refuse)(const attn_implementation *implementation, const attn_device *device,
                          const attn_layer_problem *problem, bool *hard);
    /* Bytes, multiples of ATTN_WORKSPACE_ALIGNMENT; counted by the code that carves (SIZE_MAX: they do not fit). Asked only for problems with
     * at least one item and one query. */
    size_t (*workspace_size)(const attn_implementation *implementation, const attn_device *device,
                             const attn_layer_problem *planned);
    size_t (*prepared_size)(const attn_implementation *implementation,
                            const attn_layer_problem *planned); /* NULL: nothing to prepare */
    /* The weights are those of the call; prepared is aligned to ATTN_WORKSPACE_ALIGNMENT. */
    void (*prepare)(const attn_implementation *implementation, const attn_layer_problem *planned,
                    const attn_layer_call *weights, void *prepared);
    attn_status (*run)(const attn_implementation *implementation, attn_device *device,
                       const attn_layer_problem *planned, const attn_layer_call *call);
    /* Of the operations beside the layer's, which have nothing else behind `data`. */
    const attn_sdpa_functions *sdpa;
    const attn_matmul_functions *matmul;
    const attn_softmax_functions *softmax;
};

typedef struct attn_backend {
    const char *name;
    bool
        device_memory; /* tensors are in a device's memory: the front-end reads and writes none of them, ranges are clamped, kept is not checked */
    /* With device_memory alone: what a backward run without items or queries writes, zeros save where it accumulates. */
    attn_status (*clear_gradients)(attn_device *device, const attn_layer_call *call);
    /* On failure *message (static storage) says why. */
    attn_status (*open)(const attn_device_options *options, attn_device **device, const char **message);
    void (*close)(attn_device *device);
    int (*threads)(const attn_device *device);
    const char *(*isa)(const attn_device *device);
    const char *(*features)(const attn_device *device);
    const char *(*blas)(const attn_device *device);
    /* Around whatever computes, in the calling thread: its floating-point state. NULL: the backend computes elsewhere. */
    void (*enter)(void);
    void (*leave)(void);
    /* In order of preference; NULL past the end. */
    const attn_implementation *(*implementation)(size_t index);
    /* What a forward pass in training keeps, in one layout for all implementations of the backend: bytes for a problem with at least one
     * item and one query (SIZE_MAX: they do not fit), never more for smaller sizes. */
    size_t (*kept_size)(const attn_layer_problem *problem);
} attn_backend;

/* What a backend that is a module of its own exports, by a function of type attn_module_entry. The first two fields never move. */
typedef struct attn_module {
    const char *version; /* of the library that it was built with: attn_version() */
    uint64_t interface;  /* ATTN_BACKEND_INTERFACE of that build */
    const attn_backend *backend;
} attn_module;
typedef const attn_module *(*attn_module_entry)(void);

/* Tells apart builds of one version whose structures differ. */
#define ATTN_BACKEND_SIZE(hash, type) (((hash) ^ sizeof(type)) * UINT64_C(0x100000001b3))
#define ATTN_BACKEND_CALLS                                                                                             \
    ATTN_BACKEND_SIZE(                                                                                                 \
        ATTN_BACKEND_SIZE(ATTN_BACKEND_SIZE(ATTN_BACKEND_SIZE(UINT64_C(1), attn_layer_call), attn_sdpa_call),          \
                          attn_matmul_call),                                                                           \
        attn_softmax_call)
#define ATTN_BACKEND_INTERFACE                                                                                         \
    ATTN_BACKEND_SIZE(                                                                                                 \
        ATTN_BACKEND_SIZE(ATTN_BACKEND_SIZE(ATTN_BACKEND_CALLS, attn_device_options), attn_implementation),            \
        attn_backend)

#ifdef __cplusplus
extern "C" {
#endif

/* The CPU backend, always part of the library. */
const attn_backend *attn_cpu_backend(void);

#ifdef __cplusplus
}
#endif

#endif
