/* SPDX-License-Identifier: Apache-2.0 */
/* libcuda.so.1 without a GPU: what tests/driver.h loads, for programs that run on an emulated module (streams.h). */
#include "tests/cuda_driver/streams.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

/* Numbers of the driver interface's documentation. */
enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_READY = 600,
    ALREADY_REGISTERED = 712,
    NOT_REGISTERED = 713,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901
};
enum { CAPTURE_THREAD = 1, POISON = 0xff, MEMORY_ALIGNMENT = 256 };
enum { CLOCK_RATE = 13, MULTIPROCESSORS = 16, MEMORY_CLOCK_RATE = 36, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };

typedef std::uint64_t pointer;

/* One piece of work; queues and graphs share it. */
struct job {
    explicit job(const attn_work &given) : work(given) {}
    ~job() { work.forget(work.argument); }
    job(const job &) = delete;
    job &operator=(const job &) = delete;

    attn_work work;
};

typedef std::shared_ptr<const job> shared_job;

} // namespace

struct CUstream_st {
    std::deque<shared_job> waiting;
    std::vector<shared_job> captured;
    std::thread::id capturer;
    bool captures, spoiled;
};

struct CUevent_st {
    bool recorded;
    std::size_t pending; /* marks of it that wait in a stream */
    std::uint64_t time;
};

struct CUgraph_st {
    std::vector<shared_job> jobs;
};

struct CUgraphExec_st {
    std::vector<shared_job> jobs;
};

namespace {

std::recursive_mutex lock;
CUstream_st default_stream;
std::set<CUstream_st *> streams = {&default_stream};
std::set<CUevent_st *> events;
std::set<CUgraph_st *> graphs;
std::set<CUgraphExec_st *> executables;
std::map<pointer, std::size_t> memory, registered;
std::uint64_t microseconds, seed = 1;
int lost;
bool has_context;

typedef std::lock_guard<std::recursive_mutex> locked;

/* ---- Work ------------------------------------------------------------------------------------------ */

CUstream_st *find(CUstream_st *stream) {
    if (!stream) return &default_stream;
    return streams.count(stream) ? stream : nullptr;
}

int enter() { return lost ? lost : has_context ? SUCCESS : INVALID_CONTEXT; }

/* What may not be done while the thread captures spoils what it captures. */
int enter_outside_captures() {
    bool captures = false;
    for (CUstream_st *stream : streams)
        if (stream->captures && stream->capturer == std::this_thread::get_id()) captures = stream->spoiled = true;
    return captures ? CAPTURE_UNSUPPORTED : enter();
}

CUstream_st *draw_busy() {
    std::vector<CUstream_st *> busy;
    for (CUstream_st *stream : streams)
        if (!stream->waiting.empty()) busy.push_back(stream);
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return busy.empty() ? nullptr : busy[(seed >> 33) % busy.size()];
}

/* Works until that holds, or all is done. */
int work_until(const std::function<bool()> &enough) {
    while (!lost && !enough()) {
        CUstream_st *const stream = draw_busy();
        if (!stream) break;
        const shared_job next = stream->waiting.front();
        stream->waiting.pop_front();
        microseconds++;
        lost = next->work.run(next->work.argument);
    }
    return lost;
}

int finish_all() {
    return work_until([] { return false; });
}

int put(CUstream_st *given, const shared_job &next) {
    CUstream_st *const stream = find(given);
    if (!stream) return INVALID_HANDLE;
    if (stream->captures)
        stream->captured.push_back(next);
    else
        stream->waiting.push_back(next);
    return SUCCESS;
}

/* A function as work. */
int put(CUstream_st *stream, const std::function<void()> &function) {
    const attn_work work = {[](void *argument) {
                                (*static_cast<std::function<void()> *>(argument))();
                                return static_cast<int>(SUCCESS);
                            },
                            [](void *argument) { delete static_cast<std::function<void()> *>(argument); },
                            new std::function<void()>(function)};
    return put(stream, std::make_shared<job>(work));
}

void *at(pointer address) { return reinterpret_cast<void *>(address); }

/* Whether the bytes lie in memory that was allocated here. */
bool holds(pointer address, std::size_t bytes) {
    auto next = memory.upper_bound(address);
    if (next == memory.begin()) return false;
    const auto &[start, size] = *--next;
    return address - start <= size && bytes <= size - (address - start);
}

} // namespace

EXPORTED int attn_driver_put(CUstream_st *stream, const attn_work *work) {
    const locked holding(lock);
    const shared_job next = std::make_shared<job>(*work);
    const int error = enter();
    return error ? error : put(stream, next);
}

EXPORTED int attn_driver_allow() {
    const locked holding(lock);
    return enter_outside_captures();
}

/* ---- Devices --------------------------------------------------------------------------------------- */

EXPORTED int cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }

EXPORTED int cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}

EXPORTED int cuDeviceGet(int *device, int ordinal) {
    *device = 0;
    return ordinal == 0 ? SUCCESS : NO_DEVICE;
}

EXPORTED int cuDeviceGetName(char *name, int room, int device) {
    std::snprintf(name, static_cast<std::size_t>(room), "emulated device %d", device);
    return SUCCESS;
}

EXPORTED int cuDeviceGetAttribute(int *value, int attribute, int) {
    const std::map<int, int> values = {{CLOCK_RATE, 1000000},
                                       {MULTIPROCESSORS, 1},
                                       {MEMORY_CLOCK_RATE, 1000000},
                                       {CAPABILITY_MAJOR, 9},
                                       {CAPABILITY_MINOR, 0}};
    const auto found = values.find(attribute);
    if (found == values.end()) return INVALID_VALUE;
    *value = found->second;
    return SUCCESS;
}

EXPORTED int cuDevicePrimaryCtxRetain(void **context, int) {
    *context = &default_stream;
    return SUCCESS;
}

EXPORTED int cuCtxSetCurrent(void *context) {
    has_context = context == &default_stream;
    return has_context ? SUCCESS : INVALID_CONTEXT;
}

EXPORTED int cuCtxSynchronize() {
    const locked holding(lock);
    const int error = enter_outside_captures();
    return error ? error : finish_all();
}

/* ---- Memory ---------------------------------------------------------------------------------------- */

EXPORTED int cuMemHostRegister_v2(void *pages, std::size_t bytes, unsigned) {
    const locked holding(lock);
    const int error = enter_outside_captures();
    if (error) return error;
    if (!pages || bytes == 0) return INVALID_VALUE;
    return registered.emplace(reinterpret_cast<pointer>(pages), bytes).second ? SUCCESS : ALREADY_REGISTERED;
}

EXPORTED int cuMemHostUnregister(void *pages) {
    const locked holding(lock);
    const int error = enter_outside_captures();
    if (error) return error;
    return registered.erase(reinterpret_cast<pointer>(pages)) ? SUCCESS : NOT_REGISTERED;
}

EXPORTED int cuMemAlloc_v2(pointer *address, std::size_t bytes) {
    const locked holding(lock);
    const int error = enter_outside_captures();
    if (error) return error;
    if (bytes == 0) return INVALID_VALUE;
    void *const found =
        std::aligned_alloc(MEMORY_ALIGNMENT, (bytes + MEMORY_ALIGNMENT - 1) / MEMORY_ALIGNMENT * MEMORY_ALIGNMENT);
    if (!found) return OUT_OF_MEMORY;
    std::memset(found, POISON, bytes);
    *address = reinterpret_cast<pointer>(found);
    memory[*address] = bytes;
    return SUCCESS;
}

EXPORTED int cuMemFree_v2(pointer address) {
    const locked holding(lock);
    int error = enter_outside_captures();
    if (!error) error = finish_all();
    if (error) return error;
    if (!memory.erase(address)) return INVALID_VALUE;
    std::free(at(address));
    return SUCCESS;
}

/* A copy to the device is over when the host's bytes have been taken: work of the default stream, which no other waits for. */
EXPORTED int cuMemcpyHtoD_v2(pointer to, const void *from, std::size_t bytes) {
    const locked holding(lock);
    const int error = enter_outside_captures();
    if (error) return error;
    if (!holds(to, bytes)) return INVALID_VALUE;
    const char *const first = static_cast<const char *>(from);
    const std::vector<char> staged(first, first + bytes);
    return put(nullptr, [=] { std::memcpy(at(to), staged.data(), staged.size()); });
}

EXPORTED int cuMemcpyDtoH_v2(void *to, pointer from, std::size_t bytes) {
    const locked holding(lock);
    const int error = enter_outside_captures();
    if (error) return error;
    if (!holds(from, bytes)) return INVALID_VALUE;
    put(nullptr, [=] { std::memcpy(to, at(from), bytes); });
    return work_until([] { return default_stream.waiting.empty(); });
}

EXPORTED int cuMemcpyDtoDAsync_v2(pointer to, pointer from, std::size_t bytes, CUstream_st *stream) {
    const locked holding(lock);
    const int error = enter();
    if (error) return error;
    if (!holds(to, bytes) || !holds(from, bytes)) return INVALID_VALUE;
    return put(stream, [=] { std::memmove(at(to), at(from), bytes); });
}

EXPORTED int cuMemsetD32Async(pointer to, unsigned value, std::size_t count, CUstream_st *stream) {
    const locked holding(lock);
    const int error = enter();
    if (error) return error;
    if (!holds(to, count * sizeof value)) return INVALID_VALUE;
    return put(stream, [=] {
        for (std::size_t i = 0; i < count; i++) static_cast<unsigned *>(at(to))[i] = value;
    });
}

/* ---- Streams and graphs ---------------------------------------------------------------------------- */

EXPORTED int cuStreamCreate(CUstream_st **stream, unsigned) {
    const locked holding(lock);
    const int error = enter();
    if (!error) streams.insert(*stream = new CUstream_st());
    return error;
}

EXPORTED int cuStreamDestroy_v2(CUstream_st *stream) {
    const locked holding(lock);
    if (!stream || !streams.count(stream)) return INVALID_HANDLE;
    const int error = work_until([=] { return stream->waiting.empty(); });
    streams.erase(stream);
    delete stream;
    return error;
}

EXPORTED int cuStreamSynchronize(CUstream_st *given) {
    const locked holding(lock);
    CUstream_st *const stream = find(given);
    if (!stream) return INVALID_HANDLE;
    const int error = enter_outside_captures();
    return error ? error : work_until([=] { return stream->waiting.empty(); });
}

EXPORTED int cuStreamBeginCapture_v2(CUstream_st *stream, int mode) {
    const locked holding(lock);
    const int error = enter();
    if (error) return error;
    if (!stream) return CAPTURE_UNSUPPORTED;
    if (!find(stream) || stream->captures || mode != CAPTURE_THREAD) return INVALID_VALUE;
    stream->captures = true, stream->spoiled = false, stream->capturer = std::this_thread::get_id();
    return SUCCESS;
}

EXPORTED int cuStreamEndCapture(CUstream_st *stream, CUgraph_st **graph) {
    const locked holding(lock);
    *graph = nullptr;
    if (!stream || !find(stream) || !stream->captures) return INVALID_VALUE;
    stream->captures = false;
    if (!stream->spoiled) graphs.insert(*graph = new CUgraph_st{stream->captured});
    stream->captured.clear();
    return stream->spoiled ? CAPTURE_INVALIDATED : SUCCESS;
}

EXPORTED int cuGraphInstantiateWithFlags(CUgraphExec_st **executable, CUgraph_st *graph, unsigned long long) {
    const locked holding(lock);
    if (!graphs.count(graph)) return INVALID_VALUE;
    executables.insert(*executable = new CUgraphExec_st{graph->jobs});
    return SUCCESS;
}

EXPORTED int cuGraphLaunch(CUgraphExec_st *executable, CUstream_st *stream) {
    const locked holding(lock);
    int error = enter();
    if (!error && !executables.count(executable)) error = INVALID_VALUE;
    for (std::size_t i = 0; !error && i < executable->jobs.size(); i++) error = put(stream, executable->jobs[i]);
    return error;
}

EXPORTED int cuGraphExecDestroy(CUgraphExec_st *executable) {
    const locked holding(lock);
    if (!executables.erase(executable)) return INVALID_VALUE;
    delete executable;
    return SUCCESS;
}

EXPORTED int cuGraphDestroy(CUgraph_st *graph) {
    const locked holding(lock);
    if (!graphs.erase(graph)) return INVALID_VALUE;
    delete graph;
    return SUCCESS;
}

/* ---- Events ---------------------------------------------------------------------------------------- */

EXPORTED int cuEventCreate(CUevent_st **event, unsigned) {
    const locked holding(lock);
    const int error = enter();
    if (!error) events.insert(*event = new CUevent_st());
    return error;
}

EXPORTED int cuEventRecord(CUevent_st *event, CUstream_st *given) {
    const locked holding(lock);
    const int error = enter();
    if (error) return error;
    CUstream_st *const stream = find(given);
    if (!events.count(event) || !stream) return INVALID_HANDLE;
    if (stream->captures) return CAPTURE_UNSUPPORTED;
    event->recorded = true, event->pending++;
    return put(stream, [=] { event->pending--, event->time = microseconds; });
}

EXPORTED int cuEventSynchronize(CUevent_st *event) {
    const locked holding(lock);
    const int error = enter_outside_captures();
    if (error) return error;
    if (!events.count(event)) return INVALID_HANDLE;
    return work_until([=] { return event->pending == 0; });
}

EXPORTED int cuEventElapsedTime(float *milliseconds, CUevent_st *from, CUevent_st *to) {
    const locked holding(lock);
    if (!events.count(from) || !events.count(to) || !from->recorded || !to->recorded) return INVALID_HANDLE;
    if (from->pending || to->pending) return NOT_READY;
    *milliseconds = static_cast<float>(to->time - from->time) * 1e-3f;
    return SUCCESS;
}

EXPORTED int cuEventDestroy_v2(CUevent_st *event) {
    const locked holding(lock);
    if (!events.count(event)) return INVALID_HANDLE;
    const int error = work_until([=] { return event->pending == 0; });
    events.erase(event);
    delete event;
    return error;
}
