/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_emulation/emulation.h"

#include "tests/cuda_emulation/cuda_runtime.h"
#include "tests/cuda_ptx/library.h"
#include "tests/cuda_ptx/tensor.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

enum { WARP = 32, MOST_THREADS = 1024, SHARED_BYTES = 227 * 1024 };
enum : std::size_t { STACK_BYTES = 256 * 1024, GUARD_BYTES = 4096 };

std::mutex one_at_a_time;
attn_emulated machine = {13000, 13000, 1, 0, 90, 0, 0, 0, cudaErrorInvalidValue, 0, 0, nullptr, 1, 0, 0, 0, 0};

} // namespace

__align__(1024) unsigned char attn_shared[SHARED_BYTES];

extern "C" __attribute__((visibility("default"))) attn_emulated *attn_emulation(void) { return &machine; }

namespace {

/* ---- The machine ---------------------------------------------------------------------------------- */

cudaError_t answer(cudaError_t error) {
    if (error != cudaSuccess) machine.record = error;
    return error;
}

/* What every call of the runtime does first. */
cudaError_t enter() {
    if (machine.lost) return answer(static_cast<cudaError_t>(machine.lost));
    if (machine.fail_at > 0 && --machine.fail_at == 0) return answer(static_cast<cudaError_t>(machine.fail_with));
    return cudaSuccess;
}

cudaError_t enter_device(int device) {
    const cudaError_t error = enter();
    if (error) return error;
    if (machine.driver < machine.needed) return answer(cudaErrorInsufficientDriver);
    if (machine.devices == 0) return answer(cudaErrorNoDevice);
    return device < 0 || device >= machine.devices ? answer(cudaErrorInvalidDevice) : cudaSuccess;
}

std::uint64_t random_below(std::uint64_t most) {
    machine.seed = machine.seed * 6364136223846793005u + 1442695040888963407u;
    return (machine.seed >> 33) % most;
}

/* ---- Fibers --------------------------------------------------------------------------------------- */

enum class wait { none, barrier, exchange, product, left };

/* A copy to shared memory that a thread has asked for and not seen yet. */
struct copy {
    void *to;
    const void *from;
    unsigned bytes, group;
    bool there;
};

struct fiber {
    ucontext_t context;
    jmp_buf place;
    bool started;
    char *stack;
    void *sanitizer; /* what AddressSanitizer keeps of a stack that is left */
    wait waiting;
    unsigned rank; /* order::by_warp: of its warp, 0 goes first */
    int line;
    unsigned mask, lane;
    float value;
    float *c; /* of a product: the lane's elements */
    const unsigned *a, *b;
    std::vector<copy> copies; /* on their way */
    unsigned groups;          /* committed */
};

/* Which of the ready threads runs next: any; mostly who was made ready last, so that threads run far ahead of each other; or strictly one warp
 * before the other. */
enum class order { random, eager, by_warp };

/* When an asynchronous copy takes place: when it is asked for, when it is waited for, or either. */
enum class arrival { early, late, random };

struct block_run {
    std::vector<fiber> fibers;
    std::vector<unsigned> ready;
    unsigned count, running, left, at_barrier;
    order threads;
    arrival copies;
    unsigned unseen; /* threads that left while copies of theirs were on their way */
    const std::function<void()> *kernel;
    ucontext_t scheduler;
    jmp_buf scheduler_place;
    void *scheduler_sanitizer;
    const void *scheduler_stack;
    std::size_t scheduler_size;
};

block_run block;

void start_switch(void **save, const void *stack, std::size_t size) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(save, stack, size);
#else
    (void)save, (void)stack, (void)size;
#endif
}

void finish_switch(void *save, const void **stack, std::size_t *size) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(save, stack, size);
#else
    (void)save, (void)stack, (void)size;
#endif
}

/* swapcontext asks the kernel for the signal mask each time, which takes longer than all the rest: it starts a fiber, and jumps do what follows. Not
 * under AddressSanitizer, which takes a jump for one within a stack. */
#ifdef __SANITIZE_ADDRESS__
void to_scheduler(fiber &self) { swapcontext(&self.context, &block.scheduler); }
void to_fiber(fiber &next) { swapcontext(&block.scheduler, &next.context); }
#else
void to_scheduler(fiber &self) {
    if (!_setjmp(self.place)) _longjmp(block.scheduler_place, 1);
}

void to_fiber(fiber &next) {
    if (_setjmp(block.scheduler_place)) return;
    if (next.started) _longjmp(next.place, 1);
    next.started = true;
    setcontext(&next.context);
}
#endif

void yield(bool for_good) {
    fiber &self = block.fibers[block.running];
    start_switch(for_good ? nullptr : &self.sanitizer, block.scheduler_stack, block.scheduler_size);
    to_scheduler(self);
    finish_switch(self.sanitizer, &block.scheduler_stack, &block.scheduler_size);
}

void run_thread() {
    finish_switch(nullptr, &block.scheduler_stack, &block.scheduler_size);
    (*block.kernel)();
    if (!block.fibers[block.running].copies.empty()) block.unseen++;
    block.fibers[block.running].waiting = wait::left;
    block.left++;
    yield(true);
}

void make_ready(unsigned thread) {
    block.fibers[thread].waiting = wait::none;
    block.ready.push_back(thread);
}

void resume(unsigned thread) {
    fiber &next = block.fibers[thread];
    block.running = thread;
    threadIdx = dim3(thread);
    start_switch(&block.scheduler_sanitizer, next.stack, STACK_BYTES);
    to_fiber(next);
    finish_switch(block.scheduler_sanitizer, nullptr, nullptr);
}

/* ---- Meeting points ------------------------------------------------------------------------------- */

/* Whether the lanes of the mask all wait for the same at the line. */
bool have_met(unsigned first, unsigned mask, int line, wait what) {
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        if (first + lane >= block.count) return false;
        const fiber &other = block.fibers[first + lane];
        if (other.waiting != what || other.line != line || other.mask != mask) return false;
    }
    return true;
}

void exchange_values(unsigned first, unsigned mask) {
    float values[WARP];
    for (unsigned lane = 0; lane < WARP; lane++)
        values[lane] = mask >> lane & 1 ? block.fibers[first + lane].value : NAN;
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        fiber &other = block.fibers[first + lane];
        other.value = values[other.lane % WARP];
        make_ready(first + lane);
    }
}

/* A warp's product on tensor cores. */
void multiply_matrices(unsigned first) {
    double a[16][16] = {}, b[16][8] = {};
    float c[16][8];
    for (unsigned lane = 0; lane < WARP; lane++) {
        const fiber &self = block.fibers[first + lane];
        for (unsigned i = 0; i < 4; i++) {
            const ptx::element at = ptx::of_a(lane, i, true), to = ptx::of_c(lane, i);
            a[at.row][at.column] = static_cast<double>(ptx::seen_as_tf32(self.a[i]));
            c[to.row][to.column] = self.c[i];
        }
        for (unsigned i = 0; i < 2; i++) {
            const ptx::element at = ptx::of_b(lane, i, true);
            b[at.row][at.column] = static_cast<double>(ptx::seen_as_tf32(self.b[i]));
        }
    }
    ptx::multiply_add(8, a, b, c);
    for (unsigned lane = 0; lane < WARP; lane++) {
        for (unsigned i = 0; i < 4; i++) {
            const ptx::element from = ptx::of_c(lane, i);
            block.fibers[first + lane].c[i] = c[from.row][from.column];
        }
        make_ready(first + lane);
    }
}

bool all_at_one_barrier() {
    for (unsigned i = 1; i < block.count; i++)
        if (block.fibers[i].line != block.fibers[0].line) return false;
    return true;
}

/* ---- Blocks --------------------------------------------------------------------------------------- */

/* What follows the block's shared memory, and has to stay as it is. */
std::size_t guard_bytes(std::size_t bytes) { return std::min<std::size_t>(sizeof attn_shared - bytes, GUARD_BYTES); }

bool guard_is_whole(std::size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
    return bytes <= sizeof attn_shared; /* has been watched */
#else
    for (std::size_t i = 0; i < guard_bytes(bytes); i++)
        if (attn_shared[bytes + i] != 0xff) return false;
    return true;
#endif
}

void poison_shared(std::size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(attn_shared, sizeof attn_shared);
#endif
    std::memset(attn_shared, 0xff, bytes + guard_bytes(bytes));
#ifdef __SANITIZE_ADDRESS__
    __asan_poison_memory_region(attn_shared + bytes, sizeof attn_shared - bytes);
#endif
}

/* A stack below a page that can't be touched. */
char *map_stack() {
    void *memory = mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    mprotect(memory, GUARD_BYTES, PROT_NONE);
    return static_cast<char *>(memory) + GUARD_BYTES;
}

bool start_threads(unsigned count) {
    if (block.fibers.size() < count) block.fibers.resize(count);
    block.ready.clear();
    block.count = count, block.left = block.at_barrier = 0;
    block.threads = static_cast<order>(random_below(3));
    block.copies = static_cast<arrival>(random_below(3));
    block.unseen = 0;
    const unsigned warps = (count + WARP - 1) / WARP, favourite = static_cast<unsigned>(random_below(warps));
    for (unsigned i = 0; i < count; i++) {
        fiber &thread = block.fibers[i];
        if (!thread.stack && !(thread.stack = map_stack())) return false;
#ifdef __SANITIZE_ADDRESS__
        __asan_unpoison_memory_region(thread.stack, STACK_BYTES);
#endif
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack;
        thread.context.uc_stack.ss_size = STACK_BYTES;
        thread.context.uc_link = nullptr;
        thread.started = false;
        thread.copies.clear();
        thread.groups = 0;
        thread.rank = (i / WARP + warps - favourite) % warps;
        makecontext(&thread.context, run_thread, 0);
        make_ready(i);
    }
    for (unsigned i = count; i > 1; i--) std::swap(block.ready[i - 1], block.ready[random_below(i)]);
    return true;
}

/* The index of the ready thread to run. */
std::size_t pick_ready() {
    const std::size_t any = random_below(block.ready.size());
    if (block.threads == order::random) return any;
    if (block.threads == order::eager) return random_below(8) ? block.ready.size() - 1 : any;
    std::size_t best = any;
    for (std::size_t i = 0; i < block.ready.size(); i++)
        if (block.fibers[block.ready[i]].rank < block.fibers[block.ready[best]].rank) best = i;
    return best;
}

/* False when threads wait for what will never come, or wrote where they must not. */
bool run_block(unsigned index, const cudaLaunchConfig_t *config) {
    blockIdx = dim3(index);
    poison_shared(config->dynamicSmemBytes);
    if (!start_threads(config->blockDim.x)) return false;
    while (block.left < block.count) {
        if (block.ready.empty() && block.at_barrier == block.count && all_at_one_barrier()) {
            block.at_barrier = 0;
            for (unsigned i = 0; i < block.count; i++) make_ready(i);
        }
        if (block.ready.empty()) {
            std::fprintf(stderr,
                         "cuda emulation: block %u: %u of %u threads left, the others wait at different places\n",
                         index, block.left, block.count);
            return false;
        }
        const std::size_t pick = pick_ready();
        const unsigned thread = block.ready[pick];
        block.ready[pick] = block.ready.back();
        block.ready.pop_back();
        resume(thread);
    }
    if (block.unseen > 0) {
        std::fprintf(stderr, "cuda emulation: block %u: %u threads left copies that nobody waited for\n", index,
                     block.unseen);
        return false;
    }
    if (guard_is_whole(config->dynamicSmemBytes)) return true;
    std::fprintf(stderr, "cuda emulation: block %u: wrote past its %zu bytes of shared memory\n", index,
                 config->dynamicSmemBytes);
    return false;
}

std::vector<unsigned> shuffled(unsigned count) {
    std::vector<unsigned> order(count);
    for (unsigned i = 0; i < count; i++) order[i] = i;
    for (unsigned i = count; i > 1; i--) std::swap(order[i - 1], order[random_below(i)]);
    return order;
}

bool interpret(const cudaLaunchConfig_t *config, const attn_emulated_kernel &kernel) {
    ptx::launch how;
    how.blocks = config->gridDim.x, how.threads = config->blockDim.x, how.shared_bytes = config->dynamicSmemBytes;
    how.parameters = kernel.parameters, how.parameter_bytes = kernel.parameter_bytes;
    how.seed = random_below(UINT32_MAX);
    return ptx::run_instead(kernel.function, how);
}

bool run_blocks(const cudaLaunchConfig_t *config, const attn_emulated_kernel &kernel) {
    if (ptx::wanted()) return interpret(config, kernel);
    gridDim = config->gridDim, blockDim = config->blockDim;
    block.kernel = &kernel.call;
    for (const unsigned index : shuffled(config->gridDim.x))
        if (!run_block(index, config)) return false;
    return true;
}

} // namespace

void attn_emulate_barrier(int line) {
    fiber &self = block.fibers[block.running];
    self.waiting = wait::barrier, self.line = line;
    block.at_barrier++;
    yield(false);
}

float attn_emulate_exchange(int line, unsigned mask, float value, unsigned lane) {
    const unsigned thread = block.running, first = thread / WARP * WARP;
    fiber &self = block.fibers[thread];
    self.waiting = wait::exchange, self.line = line, self.mask = mask, self.value = value, self.lane = lane;
    if (have_met(first, mask, line, wait::exchange)) exchange_values(first, mask);
    yield(false);
    return block.fibers[thread].value;
}

static void take_place(const copy &c) {
    if (c.there)
        std::memcpy(c.to, c.from, c.bytes);
    else
        std::memset(c.to, 0, c.bytes);
}

void attn_emulate_copy(void *to, const void *from, unsigned bytes, bool there) {
    fiber &self = block.fibers[block.running];
    const copy asked = {to, from, bytes, self.groups, there};
    const bool aligned = (reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % bytes == 0;
    if (!aligned) {
        std::fprintf(stderr, "cuda emulation: an asynchronous copy of %u bytes is not aligned\n", bytes);
        self.copies.push_back(asked), self.copies.back().group = UINT32_MAX; /* never arrives: the launch fails */
    } else if (block.copies == arrival::early || (block.copies == arrival::random && random_below(2))) {
        take_place(asked);
    } else {
        self.copies.push_back(asked);
    }
}

void attn_commit_copies() { block.fibers[block.running].groups++; }

/* Groups older than the last `groups` committed ones arrive. */
void attn_emulate_await(unsigned groups) {
    fiber &self = block.fibers[block.running];
    std::vector<copy> left;
    for (const copy &c : self.copies)
        if (std::uint64_t{c.group} + groups < self.groups)
            take_place(c);
        else
            left.push_back(c);
    self.copies.swap(left);
}

void attn_mma_tf32(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    const unsigned first = block.running / WARP * WARP;
    fiber &self = block.fibers[block.running];
    self.waiting = wait::product, self.line = 0, self.mask = UINT32_MAX, self.c = c, self.a = a, self.b = b;
    if (have_met(first, UINT32_MAX, 0, wait::product)) multiply_matrices(first);
    yield(false);
}

cudaError_t attn_emulate(const cudaLaunchConfig_t *config, const attn_emulated_kernel &kernel) {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    const cudaError_t error = enter_device(machine.current);
    if (error) return error;
    const dim3 &grid = config->gridDim, &threads = config->blockDim;
    if (machine.without_code) return answer(cudaErrorNoKernelImageForDevice);
    if (grid.x == 0 || grid.x > 0x7fffffff || threads.x == 0 || threads.x > MOST_THREADS ||
        config->dynamicSmemBytes > SHARED_BYTES)
        return answer(cudaErrorInvalidValue);
    machine.launches++;
    machine.stream = config->stream;
    if (!run_blocks(config, kernel)) {
        machine.lost = cudaErrorLaunchFailure;
        return answer(cudaErrorLaunchFailure);
    }
    return cudaSuccess;
}

/* ---- The runtime ---------------------------------------------------------------------------------- */

/* As NVIDIA's runtime: every call starts it, and what keeps it from starting is the answer. */
cudaError_t cudaPeekAtLastError() {
    if (machine.driver < machine.needed) return cudaErrorInsufficientDriver;
    if (machine.devices == 0) return cudaErrorNoDevice;
    return static_cast<cudaError_t>(machine.lost ? machine.lost : machine.record);
}

cudaError_t cudaGetLastError() {
    const cudaError_t error = cudaPeekAtLastError();
    machine.record = cudaSuccess;
    return error;
}

cudaError_t cudaDriverGetVersion(int *version) {
    const cudaError_t error = enter();
    *version = machine.driver;
    return error;
}

cudaError_t cudaGetDeviceCount(int *count) {
    const cudaError_t error = enter_device(0);
    *count = error ? 0 : machine.devices;
    return error;
}

cudaError_t cudaGetDevice(int *device) {
    const cudaError_t error = enter_device(machine.current);
    *device = machine.current;
    return error;
}

cudaError_t cudaSetDevice(int device) {
    const cudaError_t error = enter_device(device);
    if (!error) machine.current = device;
    return error;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    const cudaError_t error = enter_device(device);
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? machine.capability / 10 : machine.capability % 10;
    return error;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    const cudaError_t error = enter_device(device);
    std::snprintf(properties->name, sizeof properties->name, "emulated device %d", device);
    return error;
}

cudaError_t cudaMemsetAsync(void *memory, int value, std::size_t size, cudaStream_t stream) {
    const cudaError_t error = enter_device(machine.current);
    if (error) return error;
    machine.stream = stream;
    std::memset(memory, value, size);
    return cudaSuccess;
}

/* Another library keeps a record of its own. */
cudaError_t attn_emulate_library_call() {
    const int record = machine.record;
    const cudaError_t error = enter_device(machine.current);
    machine.record = record;
    return error;
}

std::size_t attn_emulate_draw(std::size_t below) { return random_below(below); }

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *function) {
    (void)function;
    const cudaError_t error = enter_device(machine.current);
    attributes->numRegs = 0;
    return !error && machine.without_code ? answer(cudaErrorNoKernelImageForDevice) : error;
}
