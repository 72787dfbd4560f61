// CUDA C on a CPU, for tests: the whole CUDA vocabulary that our kernels may use, and hooks on every access.
//
// The threads of a block are fibres that run one at a time in a shuffled order; __syncthreads yields. A pointer checks
// bounds and records who stored and who loaded each element. Two threads that touch one element, at least one of them
// storing, with no barrier between them, are a fault; so are two blocks. Atomics are exempt.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)

struct uint3 { unsigned x, y, z; };
inline uint3 threadIdx, blockIdx, blockDim, gridDim;

using std::isnan;
template <typename T> inline T min(T a, T b) { return b < a ? b : a; }
template <typename T> inline T max(T a, T b) { return a < b ? b : a; }

namespace gputape {

constexpr int NOBODY = -1, SEVERAL = -2;

// Who touched one element last: block, thread within it, and how many barriers that thread had passed.
struct Cell { int32_t writer_block, writer, writer_epoch, reader_block, reader, reader_epoch; };

// One argument as Python hands it over (`host_build.Argument`).
struct Argument {
    const char* name;
    int64_t kind;    // 0: pointer, 1: int, 2: long long, 3: float
    int64_t size;    // bytes of an element
    char* base;      // element 0
    int64_t low, high;  // the elements that exist are [low, high)
    Cell* cells;     // record of element 0; null: accesses are not checked but noted in `touched`
    int64_t per_element;  // records per element
    int64_t integer;
    double real;
};

struct Fault { std::string text; };

struct State {
    int block = 0, thread = 0, threads = 0;
    int serial = 0;  // blocks run since the library was loaded
    std::vector<int> epoch;
    std::string kernel;
    ucontext_t scheduler;
    std::vector<ucontext_t> fibres;
    std::vector<char> done;
    uint64_t random = 0;
};
inline State now;
inline std::vector<int64_t> touched;  // 2 · address of each access, plus 1 of a store

inline std::string who(int block, int thread) {
    if (block == SEVERAL) return "several blocks";
    std::string text = "block " + std::to_string(block);
    return thread == SEVERAL ? text + ", several threads" : text + ", thread " + std::to_string(thread);
}

[[noreturn]] inline void fault(const char* verb, long long at, const std::string& name, const std::string& what) {
    throw Fault{now.kernel + ": " + who(now.block, now.thread) + " " + verb + " element " + std::to_string(at) + " of '" +
                name + "', " + what};
}

inline void loads(Cell& c, long long at, const std::string& name) {
    int epoch = now.epoch[now.thread];
    if (c.writer_block != NOBODY &&
        (c.writer_block != now.block || (c.writer != now.thread && c.writer_epoch == epoch)))
        fault("loads", at, name, "which was stored by " + who(c.writer_block, c.writer) +
              " with no barrier between. Add __syncthreads(), or split the launch.");
    if (c.reader_block == NOBODY) c.reader_block = now.block;
    else if (c.reader_block != now.block) c.reader_block = SEVERAL;
    if (c.reader_epoch != epoch || c.reader == NOBODY) c.reader = now.thread, c.reader_epoch = epoch;
    else if (c.reader != now.thread) c.reader = SEVERAL;
}

inline void stores(Cell& c, long long at, const std::string& name) {
    int epoch = now.epoch[now.thread];
    if (c.writer_block != NOBODY &&
        (c.writer_block != now.block || (c.writer != now.thread && c.writer_epoch == epoch)))
        fault("stores", at, name, "which was stored by " + who(c.writer_block, c.writer) +
              " in the same launch. Give each element one thread, or add __syncthreads().");
    if (c.reader_block != NOBODY &&
        (c.reader_block != now.block || (c.reader != now.thread && c.reader_epoch == epoch)))
        fault("stores", at, name, "which was loaded by " + who(c.reader_block, c.reader) +
              " with no barrier between. Add __syncthreads(), or split the launch.");
    c.writer_block = now.block, c.writer = now.thread, c.writer_epoch = epoch;
}

// An element of memory: reading and assigning it go through the hooks.
template <typename T, typename Owner> struct Element {
    Owner* owner;
    long long at;
    operator T() const { return owner->load(at); }
    T operator=(T value) { owner->store(at, value); return value; }
    T operator=(const Element& other) { return *this = (T)other; }
    template <typename U> T operator+=(U v) { return *this = (T)(owner->load(at) + v); }
    template <typename U> T operator-=(U v) { return *this = (T)(owner->load(at) - v); }
    template <typename U> T operator*=(U v) { return *this = (T)(owner->load(at) * v); }
};

template <typename T> struct Memory {
    Argument arg;
    long long offset = 0;

    void check(const char* verb, long long at) const {
        if (at < arg.low || at >= arg.high)
            fault(verb, at, arg.name, "which has elements " + std::to_string(arg.low) + " to " +
                  std::to_string(arg.high - 1) + ". Check the bound.");
    }
    void note(long long at, int stored) const {
        if (!arg.cells) touched.push_back(2 * (int64_t)(arg.base + at * (long long)sizeof(T)) + stored);
    }
    T load(long long at) const {
        check("loads", at);
        note(at, 0);
        if (arg.cells)
            for (long long k = 0; k < arg.per_element; ++k) loads(arg.cells[at * arg.per_element + k], at, arg.name);
        T value;
        std::memcpy(&value, arg.base + at * (long long)sizeof(T), sizeof(T));
        return value;
    }
    void store(long long at, T value) const {
        check("stores", at);
        note(at, 1);
        if (arg.cells)
            for (long long k = 0; k < arg.per_element; ++k) stores(arg.cells[at * arg.per_element + k], at, arg.name);
        std::memcpy(arg.base + at * (long long)sizeof(T), &value, sizeof(T));
    }
    template <typename F> T atomic(long long at, F combine) const {
        check("updates", at);
        note(at, 0), note(at, 1);
        T old, fresh;
        std::memcpy(&old, arg.base + at * (long long)sizeof(T), sizeof(T));
        fresh = combine(old);
        std::memcpy(arg.base + at * (long long)sizeof(T), &fresh, sizeof(T));
        return old;
    }
};

template <typename T> struct InPointer : Memory<T> {
    using element = T;
    T operator[](long long i) const { return this->load(this->offset + i); }
    T operator*() const { return this->load(this->offset); }
    InPointer operator+(long long n) const { InPointer p = *this; p.offset += n; return p; }
};

template <typename T> struct OutPointer : Memory<T> {
    using element = T;
    Element<T, const Memory<T>> operator[](long long i) const { return {this, this->offset + i}; }
    Element<T, const Memory<T>> operator*() const { return {this, this->offset}; }
    OutPointer operator+(long long n) const { OutPointer p = *this; p.offset += n; return p; }
};

// Shared memory: one array for all blocks, since they run one after another; another block's values do not count.
template <typename T, int N> struct SharedArray {
    const char* name;
    T values[N];
    Cell cells[N];
    int serial[N];

    explicit SharedArray(const char* name) : name(name) { std::memset(serial, 0, sizeof serial); }
    Cell& cell(const char* verb, long long at) {
        if (at < 0 || at >= N)
            fault(verb, at, name, "which has elements 0 to " + std::to_string(N - 1) + ". Check the bound.");
        if (serial[at] != now.serial) {
            cells[at] = Cell{NOBODY, NOBODY, 0, NOBODY, NOBODY, 0};
            serial[at] = now.serial;
        }
        return cells[at];
    }
    T load(long long at) {
        Cell& c = cell("loads", at);
        if (c.writer_block == NOBODY)
            fault("loads", at, name, "which no thread of the block has stored. Store it first, then __syncthreads().");
        loads(c, at, name);
        return values[at];
    }
    void store(long long at, T value) { stores(cell("stores", at), at, name); values[at] = value; }
    Element<T, SharedArray> operator[](long long i) { return {this, i}; }
};

inline uint64_t draw() {  // xorshift64*
    now.random ^= now.random >> 12, now.random ^= now.random << 25, now.random ^= now.random >> 27;
    return now.random * 0x2545F4914F6CDD1DULL;
}

inline void shuffle(std::vector<int>& order) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[draw() % i]);
}

inline void (*entry)(void*);
inline void* entry_data;
inline std::string failure;

inline void fibre() {
    try { entry(entry_data); }
    catch (const Fault& f) { if (failure.empty()) failure = f.text; }
    now.done[now.thread] = 1;
    swapcontext(&now.fibres[now.thread], &now.scheduler);
}

inline void place(int linear, uint3 size, uint3& out) {
    out = {linear % size.x, linear / size.x % size.y, linear / size.x / size.y};
}

inline void run_block(std::vector<std::vector<char>>& stacks) {
    int n = now.threads;
    now.epoch.assign(n, 0), now.done.assign(n, 0), now.fibres.assign(n, ucontext_t{});
    std::vector<int> order(n);
    for (int t = 0; t < n; ++t) {
        order[t] = t;
        getcontext(&now.fibres[t]);
        now.fibres[t].uc_stack.ss_sp = stacks[t].data();
        now.fibres[t].uc_stack.ss_size = stacks[t].size();
        now.fibres[t].uc_link = nullptr;
        makecontext(&now.fibres[t], fibre, 0);
    }
    while (failure.empty()) {
        shuffle(order);
        int finished = 0;
        for (int t : order) {
            if (!now.done[t]) {
                now.thread = t;
                place(t, blockDim, threadIdx);
                swapcontext(&now.scheduler, &now.fibres[t]);
                if (!failure.empty()) return;
            }
            finished += now.done[t];
        }
        if (finished == n) return;
        if (finished > 0)
            failure = now.kernel + ": block " + std::to_string(now.block) + ": " + std::to_string(finished) + " of " +
                      std::to_string(n) + " threads returned while the others wait at __syncthreads(). Let all reach it.";
    }
}

template <typename P> struct Convert {
    static P from(const Argument& a) {
        if constexpr (std::is_same_v<P, float>) { expect(a, 3); return (float)a.real; }
        else { static_assert(std::is_integral_v<P>); expect(a, sizeof(P) == 8 ? 2 : 1); return (P)a.integer; }
    }
    static void expect(const Argument& a, int kind) {
        if (a.kind != kind) throw Fault{now.kernel + ": argument '" + a.name + "' has another type in the kernel. "
                                        "Pass int as an integer, long long as numpy.int64, float as a float."};
    }
};
template <typename Pointer> struct ConvertPointer {
    static Pointer from(const Argument& a) {
        if (a.kind != 0 || a.size != sizeof(typename Pointer::element))
            throw Fault{now.kernel + ": argument '" + a.name + "' is no array of elements of this size. Check its dtype."};
        Pointer p;
        p.arg = a;
        return p;
    }
};
template <typename T> struct Convert<InPointer<T>> : ConvertPointer<InPointer<T>> {};
template <typename T> struct Convert<OutPointer<T>> : ConvertPointer<OutPointer<T>> {};

template <typename... P, size_t... I>
int call(void (*kernel)(P...), const char* name, const int* grid, int only, int threads, uint64_t seed,
         const Argument* args, std::index_sequence<I...>, char* message, int capacity) {
    now.kernel = name, now.threads = threads, now.random = seed * 2 + 1, failure.clear(), touched.clear();
    draw();
    gridDim = {(unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2]}, blockDim = {(unsigned)threads, 1, 1};
    try {
        std::tuple<P...> values{Convert<P>::from(args[I])...};
        struct Bound { void (*kernel)(P...); std::tuple<P...>* args; } bound{kernel, &values};
        entry_data = &bound;
        entry = [](void* data) { auto* b = (Bound*)data; std::apply(b->kernel, *b->args); };
        std::vector<std::vector<char>> stacks(threads, std::vector<char>(64 << 10));
        std::vector<int> blocks(grid[0] * grid[1] * grid[2]);
        for (size_t b = 0; b < blocks.size(); ++b) blocks[b] = (int)b;
        shuffle(blocks);
        if (only >= 0) blocks = {only};
        for (int b : blocks) {
            now.block = b;
            ++now.serial;
            place(b, gridDim, blockIdx);
            run_block(stacks);
            if (!failure.empty()) break;
        }
    } catch (const Fault& f) { failure = f.text; }
    std::snprintf(message, capacity, "%s", failure.c_str());
    return !failure.empty();
}

template <typename... P>
int start(void (*kernel)(P...), const char* name, const int* grid, int only, int threads, uint64_t seed, int count,
          const Argument* args, char* message, int capacity) {
    if (count != (int)sizeof...(P)) {
        std::snprintf(message, capacity, "%s: takes %d arguments, got %d. Fix the host side.", name, (int)sizeof...(P), count);
        return 1;
    }
    return call(kernel, name, grid, only, threads, seed, args, std::index_sequence_for<P...>{}, message, capacity);
}

}  // namespace gputape

inline void __syncthreads() {
    using gputape::now;
    int t = now.thread;
    now.epoch[t] += 1;
    swapcontext(&now.fibres[t], &now.scheduler);
}

// Integer atomics, exempt from the rules on sharing.
template <typename T> using Int = std::enable_if_t<std::is_integral_v<T>, T>;
template <typename T> Int<T> atomicAdd(gputape::OutPointer<T> p, std::common_type_t<T> v) {
    return p.atomic(p.offset, [=](T old) { return (T)(old + v); });
}
template <typename T> Int<T> atomicMin(gputape::OutPointer<T> p, std::common_type_t<T> v) {
    return p.atomic(p.offset, [=](T old) { return old < v ? old : v; });
}
template <typename T> Int<T> atomicMax(gputape::OutPointer<T> p, std::common_type_t<T> v) {
    return p.atomic(p.offset, [=](T old) { return v < old ? old : v; });
}

// 16-bit floats are bits; arithmetic happens in float32.
struct __nv_bfloat16 { uint16_t bits; };
struct __half { uint16_t bits; };

inline float float_of(uint32_t bits) { float x; std::memcpy(&x, &bits, 4); return x; }
inline uint32_t bits_of(float x) { uint32_t bits; std::memcpy(&bits, &x, 4); return bits; }

inline float to_float(float x) { return x; }
inline float to_float(__nv_bfloat16 x) { return float_of((uint32_t)x.bits << 16); }
inline float to_float(__half x) {
    uint32_t sign = (uint32_t)(x.bits >> 15) << 31, exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
    if (exponent == 31) return float_of(sign | 0x7F800000u | fraction << 13);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * std::ldexp((float)fraction, -24);
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

template <typename T> inline T from_float(float x);
template <> inline float from_float<float>(float x) { return x; }
template <> inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
    uint32_t bits = bits_of(x);
    if (isnan(x)) return {0x7FFF};
    return {(uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
template <> inline __half from_float<__half>(float x) {
    uint16_t sign = (uint16_t)(bits_of(x) >> 16 & 0x8000);
    float size = std::fabs(x);
    if (isnan(x)) return {0x7FFF};
    if (size >= 65520.0f) return {(uint16_t)(sign | 0x7C00)};
    if (size == 0.0f) return {sign};
    int exponent;
    std::frexp(size, &exponent);  // size = f · 2^exponent, 0.5 <= f < 1
    int lowest = exponent - 11 < -24 ? -24 : exponent - 11;  // power of the last bit kept
    uint32_t steps = (uint32_t)std::nearbyint(std::ldexp(size, -lowest));  // ties to even
    return {(uint16_t)(sign | (((uint32_t)(lowest + 24) << 10) + steps))};
}

template <typename T> using In = gputape::InPointer<T>;
template <typename T> using Out = gputape::OutPointer<T>;
#define SHARED(T, name, n) static gputape::SharedArray<T, n> name(#name)

// Neighbours that one instruction loads or stores.
template <typename P> inline void check_pack(const char* verb, const P& p) {
    if ((uintptr_t)(p.arg.base + p.offset * (long long)sizeof(typename P::element)) % 16)
        gputape::fault(verb, p.offset, p.arg.name, "which is not at a multiple of 16 bytes. Check strides and address.");
}
template <typename T> inline Pack<T> load_pack(gputape::InPointer<T> p) {
    check_pack("loads a pack at", p);
    T items[Pack<T>::size];
    for (int k = 0; k < Pack<T>::size; ++k) items[k] = p[k];
    Pack<T> pack;
    std::memcpy(pack.words, items, sizeof items);
    return pack;
}
template <typename T> inline void store_pack(gputape::OutPointer<T> p, const Pack<T>& pack) {
    check_pack("stores a pack at", p);
    T items[Pack<T>::size];
    std::memcpy(items, pack.words, sizeof items);
    for (int k = 0; k < Pack<T>::size; ++k) p[k] = items[k];
}
