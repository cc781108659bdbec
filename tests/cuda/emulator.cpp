/* SPDX-License-Identifier: Apache-2.0
 *
 * emulator: fibers, and who of a block runs next. A host thread has its own fibers, so several may launch at
 * the same time. Copies into shared memory are held against who reads matrices there, whatever the order was. Switching saves what x86-64 has a callee save; AddressSanitizer is told of every switch. */
#include "emulator.h"

#include <memory>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ADDRESS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ADDRESS 1
#endif
#endif
#ifdef FIBER_ADDRESS
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

__thread emulated emulated_now;

namespace {

enum { COPY = 16, MOST_COPIES = 64 };
enum { WARP_LANES = 32, MOST_THREADS = 1024, STACK = 128 << 10, SHARED_BYTES = 48 << 10, SHARED_GAP = 64 };

enum fiber_state { READY, AT_BARRIER, AT_SHUFFLE, ENDED };

struct fiber {
    void *stack_pointer;
    char *stack;
    fiber_state state;
    size_t shared_at;     /* what it has declared so far */
    void *fake_stack;     /* AddressSanitizer's */
    uint64_t given[6];    /* to its warp */
    int copies;           /* that it has begun */
    void *to[MOST_COPIES];
    const void *from[MOST_COPIES]; /* NULL: zeros */
};

/* Whether copies race: of 16 bytes of shared memory, the turn (from one barrier to the next) in which
 * they came, or a matrix was read there and by which warp. Turns begin at 1. */
struct piece {
    bool awaited;
    int came, read, reader; /* reader: MANY for several */
};
enum { MANY = -1 };

struct crew {
    fiber fibers[MOST_THREADS];
    fiber *current;
    void *scheduler;      /* its stack pointer */
    void *fake_stack;
    const void *bottom;   /* of the scheduler's stack */
    size_t size;
    void (*body)(void *);
    void *context;
    char *shared;
    char *stacks;
    size_t declared;      /* of shared memory, by the block's first thread to come so far */
    int turn;
    piece pieces[SHARED_BYTES / COPY];

    crew();
    ~crew();
};

crew::crew() : fibers(), turn(), pieces()
{
    size_t all = (size_t)STACK * MOST_THREADS;
    stacks = (char *)mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    shared = (char *)aligned_alloc(256, SHARED_BYTES);
    if (stacks == MAP_FAILED || !shared) abort();
    for (int i = 0; i < MOST_THREADS; i++) fibers[i].stack = stacks + (size_t)i * STACK;
}

crew::~crew()
{
#ifdef FIBER_ADDRESS
    __asan_unpoison_memory_region(shared, SHARED_BYTES);
#endif
    munmap(stacks, (size_t)STACK * MOST_THREADS);
    free(shared);
}

__thread crew *crew_now;

[[noreturn]] void fail(const char *what)
{
    fprintf(stderr, "emulator: block (%d, %d, %d), thread %d: %s\n", emulated_now.block[0], emulated_now.block[1],
            emulated_now.block[2], emulated_now.thread, what);
    abort();
}

} // namespace

/* Saves the callee's registers and the stack pointer in *from, goes on at `to`. */
extern "C" void emulated_switch(void **from, void *to);
__asm__(".text\n"
        ".globl emulated_switch\n"
        ".type emulated_switch, @function\n"
        "emulated_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size emulated_switch, .-emulated_switch\n");

namespace {

/* From the fiber that runs to the scheduler. ended: it does not come back. */
void leave(bool ended)
{
    crew *c = crew_now;
    fiber *f = c->current;
#ifdef FIBER_ADDRESS
    __sanitizer_start_switch_fiber(ended ? NULL : &f->fake_stack, c->bottom, c->size);
#endif
    (void)ended;
    emulated_switch(&f->stack_pointer, c->scheduler);
#ifdef FIBER_ADDRESS
    __sanitizer_finish_switch_fiber(f->fake_stack, &c->bottom, &c->size);
#endif
}

void fiber_main()
{
    crew *c = crew_now;
#ifdef FIBER_ADDRESS
    __sanitizer_finish_switch_fiber(NULL, &c->bottom, &c->size);
#endif
    c->body(c->context);
    if (c->current->copies) fail("a thread ends that has not waited for its copies");
    c->current->state = ENDED;
    leave(true);
    abort();
}

void enter(crew *c, int thread)
{
    fiber *f = &c->fibers[thread];
    c->current = f;
    emulated_now.thread = thread;
#ifdef FIBER_ADDRESS
    __sanitizer_start_switch_fiber(&c->fake_stack, f->stack, STACK);
#endif
    emulated_switch(&c->scheduler, f->stack_pointer);
#ifdef FIBER_ADDRESS
    __sanitizer_finish_switch_fiber(c->fake_stack, NULL, NULL);
#endif
}

void begin(fiber *f)
{
#ifdef FIBER_ADDRESS
    __asan_unpoison_memory_region(f->stack, STACK); /* of frames that were left for good */
#endif
    void **top = (void **)(f->stack + STACK);
    *--top = NULL;                    /* where fiber_main would return to; the stack is aligned as after a call */
    *--top = (void *)&fiber_main;
    for (int i = 0; i < 6; i++) *--top = NULL;
    f->stack_pointer = top;
    f->state = READY;
    f->shared_at = 0;
    f->copies = 0;
}

/* Runs a warp until all its threads have ended or wait for the block. */
void run_warp(crew *c, int first, int count)
{
    for (;;) {
        int shuffling = 0, waiting = 0;
        for (int i = first; i < first + count; i++) {
            if (c->fibers[i].state == READY) enter(c, i);
            shuffling += c->fibers[i].state == AT_SHUFFLE;
            waiting += c->fibers[i].state == AT_BARRIER;
        }
        if (!shuffling) return;
        if (waiting) fail("a lane waits for a barrier while others of its warp shuffle");
        for (int i = first; i < first + count; i++)
            if (c->fibers[i].state == AT_SHUFFLE) c->fibers[i].state = READY;
    }
}

/* Nobody has declared any of it. */
void shared_begin(crew *c)
{
#ifdef FIBER_ADDRESS
    __asan_unpoison_memory_region(c->shared, SHARED_BYTES);
#endif
    memset(c->shared, 0xff, c->declared); /* as far as the block before it went */
#ifdef FIBER_ADDRESS
    __asan_poison_memory_region(c->shared, SHARED_BYTES);
#endif
}

void run_block(crew *c, int threads)
{
    shared_begin(c);
    c->turn = 1;
    memset(c->pieces, 0, sizeof c->pieces);
    for (int i = 0; i < threads; i++) begin(&c->fibers[i]);
    for (;;) {
        int ended = 0;
        for (int w = 0; w < threads; w += WARP_LANES)
            run_warp(c, w, threads - w < WARP_LANES ? threads - w : WARP_LANES);
        for (int i = 0; i < threads; i++) ended += c->fibers[i].state == ENDED;
        if (ended == threads) return;
        c->turn++;
        for (int i = 0; i < threads; i++) /* who has ended counts as come */
            if (c->fibers[i].state == AT_BARRIER) c->fibers[i].state = READY;
    }
}

} // namespace

void emulated_launch(int x, int y, int z, int threads, void (*body)(void *), void *context)
{
    static thread_local std::unique_ptr<crew> own(new crew()); /* too large for a thread's own storage */
    crew *c = crew_now = own.get();
    if (x < 1 || y < 1 || z < 1 || y > 65535 || z > 65535 || threads < 1 || threads > MOST_THREADS)
        fail("a grid or a block that no card has");
    c->body = body;
    c->context = context;
    c->declared = SHARED_BYTES;
    emulated_now = emulated{0, threads, {0, 0, 0}, {x, y, z}};
    for (int k = 0; k < z; k++)
        for (int j = 0; j < y; j++)
            for (int i = 0; i < x; i++) {
                emulated_now.block[0] = i, emulated_now.block[1] = j, emulated_now.block[2] = k;
                run_block(c, threads);
                if (c->declared == SHARED_BYTES) {
                    c->declared = 0;
                    for (int t = 0; t < threads; t++)
                        if (c->fibers[t].shared_at > c->declared) c->declared = c->fibers[t].shared_at;
                }
            }
}

void emulated_barrier()
{
    crew_now->current->state = AT_BARRIER;
    leave(false);
}

void emulated_give(const void *mine, size_t size)
{
    fiber *f = crew_now->current;
    memcpy(f->given, mine, size);
    f->state = AT_SHUFFLE;
    leave(false); /* until all have given */
}

const void *emulated_given(int lane)
{
    int thread = (emulated_now.thread & ~(WARP_LANES - 1)) + lane;
    if (thread >= emulated_now.threads || crew_now->fibers[thread].state == ENDED) fail("a lane that is no more is asked");
    return crew_now->fibers[thread].given;
}

void emulated_taken()
{
    crew_now->current->state = AT_SHUFFLE;
    leave(false);
}

void emulated_shuffle(void *value, size_t size, int mask)
{
    emulated_give(value, size);
    memcpy(value, emulated_given((emulated_now.thread ^ mask) & (WARP_LANES - 1)), size);
    emulated_taken();
}

static piece *piece_at(const void *at)
{
    crew *c = crew_now;
    size_t i = (size_t)((const char *)at - c->shared) / COPY;
    if ((const char *)at < c->shared || i >= SHARED_BYTES / COPY) fail("not a place of shared memory");
    return &c->pieces[i];
}

void emulated_copy(void *to, const void *from, bool inside)
{
    fiber *f = crew_now->current;
    if ((uintptr_t)to % COPY || (inside && (uintptr_t)from % COPY)) fail("a copy of what is not aligned");
    if (f->copies == MOST_COPIES) fail("more copies begun than the emulator keeps");
    piece *p = piece_at(to);
    if (p->read == crew_now->turn && p->reader != emulated_now.thread / WARP_LANES)
        fail("a copy goes to where another warp may still read a matrix");
    p->awaited = true;
    memset(to, 0xff, COPY); /* who still reads what was there sees it */
    f->to[f->copies] = to;
    f->from[f->copies++] = inside ? from : NULL;
}

void emulated_copies_wait()
{
    fiber *f = crew_now->current;
    for (int i = 0; i < f->copies; i++) {
        if (f->from[i])
            memcpy(f->to[i], f->from[i], COPY);
        else
            memset(f->to[i], 0, COPY);
        piece *p = piece_at(f->to[i]);
        p->awaited = false;
        p->came = crew_now->turn;
    }
    f->copies = 0;
}

/* The half of a pair */
static float half_of(uint32_t pair, int which, bool bf16)
{
    uint16_t bits = (uint16_t)(which ? pair >> 16 : pair);
    return bf16 ? bf16_bits_value(bits) : half_bits_value(bits);
}

/* What a lane has of the product's operands, widened: its four pairs of a, its two of b. */
struct operands {
    float a[4][2], b[2][2];
};

void emulated_product_of(float *c, const uint32_t *a, uint32_t b0, uint32_t b1, bool bf16)
{
    operands mine;
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < 4; i++) mine.a[i][h] = half_of(a[i], h, bf16);
        mine.b[0][h] = half_of(b0, h, bf16), mine.b[1][h] = half_of(b1, h, bf16);
    }
    int g = emulated_now.thread % WARP_LANES / 4, t = emulated_now.thread % 4;
    emulated_give(&mine, sizeof mine);
    const operands *left[4], *right[2][4]; /* of a row; of two columns */
    for (int k = 0; k < 4; k++) {
        left[k] = (const operands *)emulated_given(4 * g + k);
        for (int j = 0; j < 2; j++) right[j][k] = (const operands *)emulated_given(4 * (2 * t + j) + k);
    }
    for (int i = 0; i < 4; i++) {
        float sum = 0;
        for (int k = 0; k < 16; k++)
            sum += left[k % 8 / 2]->a[i / 2 + k / 8 * 2][k % 2] * right[i % 2][k % 8 / 2]->b[k / 8][k % 2];
        c[i] += sum;
    }
    emulated_taken();
}

void emulated_matrix_load(uint32_t *out, const uint16_t *row, bool turned)
{
    int g = emulated_now.thread % WARP_LANES / 4, t = emulated_now.thread % 4;
    if ((uintptr_t)row % COPY) fail("a matrix's row is not aligned");
    piece *p = piece_at(row);
    int warp = emulated_now.thread / WARP_LANES;
    if (p->awaited || p->came == crew_now->turn) fail("a matrix is read whose copy has no barrier behind it");
    p->reader = p->read == crew_now->turn && p->reader != warp ? MANY : warp;
    p->read = crew_now->turn;
    emulated_give(&row, sizeof row);
    for (int i = 0; i < 4; i++) {
        uint32_t pair[2];
        for (int k = 0; k < 2; k++) {
            int r = turned ? 2 * t + k : g, column = turned ? g : 2 * t + k;
            pair[k] = (*(const uint16_t *const *)emulated_given(8 * i + r))[column];
        }
        out[i] = pair[0] | pair[1] << 16;
    }
    emulated_taken();
}

void *emulated_shared(size_t size)
{
    fiber *f = crew_now->current;
    void *at = crew_now->shared + f->shared_at;
    f->shared_at += size / SHARED_GAP * SHARED_GAP + SHARED_GAP; /* at least a byte between two */
    if (f->shared_at > SHARED_BYTES) fail("more shared memory than a block can declare");
#ifdef FIBER_ADDRESS
    __asan_unpoison_memory_region(at, size);
#endif
    return at;
}
