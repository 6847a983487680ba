/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_emulation/emulation.h"

#include "tests/cuda_emulation/cuda_runtime.h"
#include "tests/cuda_ptx/library.h"
#include "tests/cuda_ptx/tensor.h"

#include <algorithm>
#include <array>
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

/* By the compiler's own jumps from one to the next: swapcontext asks the kernel for the signal mask each time, which takes longer than all the
 * rest, and the C library's longjmp is one within a stack to AddressSanitizer. */
struct fiber {
    void *place[5];
    bool started;
    const void *stack;
    std::size_t size;
    void *sanitizer; /* what AddressSanitizer keeps of a stack that is left */
};

enum class wait { none, barrier, exchange, product, left };

/* A copy to shared memory that a thread has asked for and not seen yet. */
struct copy {
    void *to;
    const void *from;
    unsigned bytes, group;
    bool there;
};

struct thread {
    wait waiting;
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
    std::array<thread, MOST_THREADS> threads;
    std::array<fiber, MOST_THREADS> fibers;                /* the threads', from block to block */
    std::vector<unsigned> ready;                           /* unless by warp: */
    std::array<unsigned, MOST_THREADS / WARP> ready_lanes; /* a bit each */
    unsigned ready_warps;
    unsigned count, running, left, at_barrier;
    order turns;
    unsigned favourite; /* order::by_warp: the warp that goes first */
    arrival copies;
    unsigned unseen; /* threads that left while copies of theirs were on their way */
    const std::function<void()> *kernel;
    fiber launcher = {{}, true, nullptr, 0, nullptr}, *previous;
};

block_run block;

void start_switch(fiber &self, const fiber &next) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&self.sanitizer, next.stack, next.size);
#else
    (void)self, (void)next;
#endif
}

/* Where the launcher's stack lies is learned from who comes from there. */
void finish_switch(const fiber &self, fiber &previous) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(self.sanitizer, &previous.stack, &previous.size);
#else
    (void)self, (void)previous;
#endif
}

void run_threads();

__attribute__((noinline, no_sanitize("address"))) void jump(fiber &self, fiber &next) {
    if (__builtin_setjmp(self.place)) return;
    if (next.started) __builtin_longjmp(next.place, 1);
    next.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = const_cast<void *>(next.stack);
    context.uc_stack.ss_size = next.size;
    context.uc_link = nullptr;
    makecontext(&context, run_threads, 0);
    setcontext(&context);
}

void switch_fibers(fiber &self, fiber &next) {
    block.previous = &self;
    start_switch(self, next);
    jump(self, next);
    finish_switch(self, *block.previous);
}

void make_ready(unsigned thread) {
    block.threads[thread].waiting = wait::none;
    if (block.turns != order::by_warp) return block.ready.push_back(thread);
    block.ready_lanes[thread / WARP] |= 1u << thread % WARP;
    block.ready_warps |= 1u << thread / WARP;
}

bool all_at_one_barrier() {
    for (unsigned i = 1; i < block.count; i++)
        if (block.threads[i].line != block.threads[0].line) return false;
    return true;
}

bool none_is_ready() { return block.ready.empty() && block.ready_warps == 0; }

/* From a bit on, round about: the first that is set. */
unsigned first_set(unsigned bits, unsigned from) {
    const unsigned behind = bits & ~0u << from;
    return static_cast<unsigned>(__builtin_ctz(behind ? behind : bits));
}

unsigned take_by_warp() {
    const unsigned warp = first_set(block.ready_warps, block.favourite);
    unsigned &lanes = block.ready_lanes[warp];
    const unsigned lane = first_set(lanes, static_cast<unsigned>(random_below(WARP)));
    lanes &= ~(1u << lane);
    if (lanes == 0) block.ready_warps &= ~(1u << warp);
    return warp * WARP + lane;
}

unsigned take_ready() {
    if (block.turns == order::by_warp) return take_by_warp();
    std::size_t pick = random_below(block.ready.size());
    if (block.turns == order::eager && random_below(8)) pick = block.ready.size() - 1;
    const unsigned thread = block.ready[pick];
    block.ready[pick] = block.ready.back();
    block.ready.pop_back();
    return thread;
}

/* Whose turn it is: a thread's, or the launcher's when none can go on. */
fiber &choose_fiber() {
    if (none_is_ready() && block.at_barrier == block.count && all_at_one_barrier()) {
        block.at_barrier = 0;
        for (unsigned i = 0; i < block.count; i++) make_ready(i);
    }
    if (none_is_ready()) return block.launcher;
    block.running = take_ready();
    threadIdx = dim3(block.running);
    return block.fibers[block.running];
}

void yield() {
    fiber &self = block.fibers[block.running], &next = choose_fiber();
    if (&next != &self) switch_fibers(self, next);
}

/* A fiber is the same thread of every block. */
void run_threads() {
    finish_switch(block.fibers[block.running], *block.previous);
    for (;;) {
        (*block.kernel)();
        if (!block.threads[block.running].copies.empty()) block.unseen++;
        block.threads[block.running].waiting = wait::left;
        block.left++;
        yield();
    }
}

/* ---- Meeting points ------------------------------------------------------------------------------- */

/* Whether the lanes of the mask all wait for the same at the line. */
bool have_met(unsigned first, unsigned mask, int line, wait what) {
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        if (first + lane >= block.count) return false;
        const thread &other = block.threads[first + lane];
        if (other.waiting != what || other.line != line || other.mask != mask) return false;
    }
    return true;
}

void exchange_values(unsigned first, unsigned mask) {
    float values[WARP];
    for (unsigned lane = 0; lane < WARP; lane++)
        values[lane] = mask >> lane & 1 ? block.threads[first + lane].value : NAN;
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        thread &other = block.threads[first + lane];
        other.value = values[other.lane % WARP];
        make_ready(first + lane);
    }
}

/* A warp's product on tensor cores. */
void multiply_matrices(unsigned first) {
    double a[16][16], b[16][8];
    float c[16][8];
    for (unsigned lane = 0; lane < WARP; lane++) {
        const thread &self = block.threads[first + lane];
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
            block.threads[first + lane].c[i] = c[from.row][from.column];
        }
        make_ready(first + lane);
    }
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

/* Stacks begin at different places of a page, which would otherwise all want the same places of the cache. */
bool give_stack(fiber &of, unsigned index) {
    char *const stack = map_stack();
    if (!stack) return false;
    of.stack = stack, of.size = STACK_BYTES - index % 32 * 128;
    return true;
}

bool start_threads(unsigned count) {
    block.ready.clear(), block.ready_lanes.fill(0), block.ready_warps = 0;
    block.count = count, block.left = block.at_barrier = 0;
    block.turns = static_cast<order>(random_below(3));
    block.copies = static_cast<arrival>(random_below(3));
    block.unseen = 0;
    block.favourite = static_cast<unsigned>(random_below((count + WARP - 1) / WARP));
    for (unsigned i = 0; i < count; i++) {
        if (!block.fibers[i].stack && !give_stack(block.fibers[i], i)) return false;
        block.threads[i].copies.clear(), block.threads[i].groups = 0;
        make_ready(i);
    }
    for (std::size_t i = block.ready.size(); i > 1; i--) std::swap(block.ready[i - 1], block.ready[random_below(i)]);
    return true;
}

/* Threads that wait for ever are given up: their fibers begin anew. */
void abandon_threads() {
    for (fiber &one : block.fibers) {
        one.started = false;
#ifdef __SANITIZE_ADDRESS__
        __asan_unpoison_memory_region(one.stack, one.size);
#endif
    }
}

/* False when threads wait for what will never come, or wrote where they must not. */
bool run_block(unsigned index, const cudaLaunchConfig_t *config) {
    blockIdx = dim3(index);
    poison_shared(config->dynamicSmemBytes);
    if (!start_threads(config->blockDim.x)) return false;
    switch_fibers(block.launcher, choose_fiber());
    if (block.left < block.count) {
        std::fprintf(stderr, "cuda emulation: block %u: %u of %u threads left, the others wait at different places\n",
                     index, block.left, block.count);
        abandon_threads();
        return false;
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
    how.parameters = kernel.parameters.get(), how.parameter_bytes = kernel.parameter_bytes;
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
    thread &self = block.threads[block.running];
    self.waiting = wait::barrier, self.line = line;
    block.at_barrier++;
    yield();
}

float attn_emulate_exchange(int line, unsigned mask, float value, unsigned lane) {
    const unsigned index = block.running, first = index / WARP * WARP;
    thread &self = block.threads[index];
    self.waiting = wait::exchange, self.line = line, self.mask = mask, self.value = value, self.lane = lane;
    if (have_met(first, mask, line, wait::exchange)) exchange_values(first, mask);
    yield();
    return block.threads[index].value;
}

static void take_place(const copy &c) {
    if (c.there)
        std::memcpy(c.to, c.from, c.bytes);
    else
        std::memset(c.to, 0, c.bytes);
}

void attn_emulate_copy(void *to, const void *from, unsigned bytes, bool there) {
    thread &self = block.threads[block.running];
    copy asked = {to, from, bytes, self.groups, there};
    const std::uintptr_t places =
        reinterpret_cast<std::uintptr_t>(to) | (there ? reinterpret_cast<std::uintptr_t>(from) : 0);
    if (places % bytes != 0) {
        std::fprintf(stderr, "cuda emulation: an asynchronous copy of %u bytes is not aligned\n", bytes);
        asked.group = UINT32_MAX; /* it never arrives, and the launch fails */
        self.copies.push_back(asked);
    } else if (block.copies == arrival::early || (block.copies == arrival::random && random_below(2))) {
        take_place(asked);
    } else {
        self.copies.push_back(asked);
    }
}

void attn_commit_copies() { block.threads[block.running].groups++; }

/* Groups older than the last `groups` committed ones arrive. */
void attn_emulate_await(unsigned groups) {
    thread &self = block.threads[block.running];
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
    thread &self = block.threads[block.running];
    self.waiting = wait::product, self.line = 0, self.mask = UINT32_MAX, self.c = c, self.a = a, self.b = b;
    if (have_met(first, UINT32_MAX, 0, wait::product)) multiply_matrices(first);
    yield();
}

/* What a launch does. */
static cudaError_t run_launch(const cudaLaunchConfig_t &config, const attn_emulated_kernel &kernel) {
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    if (run_blocks(&config, kernel)) return cudaSuccess;
    machine.lost = cudaErrorLaunchFailure;
    return answer(cudaErrorLaunchFailure);
}

/* Whether it can be put on its stream. */
static cudaError_t enter_launch(const cudaLaunchConfig_t *config) {
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
    return cudaSuccess;
}

cudaError_t attn_emulate(const cudaLaunchConfig_t *config, const attn_emulated_kernel &kernel) {
    const cudaError_t error = enter_launch(config);
    if (error) return error;
    const cudaLaunchConfig_t launch = *config;
    return answer(attn_emulate_put(config->stream, [=] { return run_launch(launch, kernel); }));
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
    return answer(attn_emulate_put(stream, [=] {
        std::memset(memory, value, size);
        return cudaSuccess;
    }));
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
